import { readFile } from 'node:fs/promises';
import * as z from 'zod';

/** What is found at an address is told with it, so none may hold a password. */
const Address = z.url().refine((url) => {
  const { username = '', password = '' } = URL.canParse(url) ? new URL(url) : {};
  return username === '' && password === '';
});

const Keys = z.strictObject({ keys: z.array(z.looseObject({ kty: z.string() })) });

const Issuer = z.strictObject({
  issuer: Address,
  fhirServer: Address,
  tenants: z.array(z.string()).optional(),
  /** Its keys, where the server is given them instead of discovering them. */
  jwks: Keys.optional(),
});

const Manager = z.strictObject({
  issuer: Address,
  resource: Address,
  clientId: z.string(),
  jwksUri: Address.optional(),
  keys: Keys.optional(),
  trustDomain: z.string(),
  fhirServers: z.array(Address),
  tenants: z.array(z.string()).optional(),
  tokenIssuers: z.array(Address),
});

const Server = z.strictObject({
  name: z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/),
  resource: Address,
  context: z.enum(['token', 'envelope', 'session']).default('token'),
  /** True when it declares an operation that causes effects. */
  effects: z.boolean().default(false),
  issuers: z.array(Issuer),
  managers: z.array(Manager).default([]),
  algorithms: z.array(z.string()).optional(),
  leewaySeconds: z.number().optional(),
  /** File of its audit log; relative to the working directory. */
  audit: z.string().optional(),
  /** True when it is served over pipes: then `resource` is its name, and nobody listens there. */
  stdio: z.boolean().default(false),
});

/**
 * What `hmcp doctor` is told of a deployment: a JSON file. Strict, so that a member it would not look at is no silent pass. It holds
 * no secret: addresses, public keys, modes and paths.
 */
export const DeploymentDescription = z.strictObject({
  /** What the processes run with. @default the doctor's own NODE_ENV */
  nodeEnv: z.string().optional(),
  servers: z.array(Server).min(1),
  /** Session stores of context managers. */
  stores: z.array(z.string()).default([]),
  /** Files that hold a private key, `pseudonymKey` or `tenantKey`, configurations among them. Never read, only looked at. */
  secrets: z.array(z.string()).default([]),
  /** Context managers of this deployment, as they are configured: what servers say of them is compared with it. */
  managers: z.array(Manager).default([]),
});
export type DeploymentDescription = z.infer<typeof DeploymentDescription>;
export type DescribedServer = DeploymentDescription['servers'][number];
export type DescribedManager = DescribedServer['managers'][number];

/** A description, or where it is not usable: paths of members, never their values. */
export type DescriptionRead = { readonly description: DeploymentDescription } | { readonly unusable: readonly string[] };

/** Reads a description file. @throws system errors when there is no such file */
export async function readDescription(file: string): Promise<DescriptionRead> {
  const text = await readFile(file, 'utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { unusable: ['the file is no JSON'] };
  }
  const parsed = DeploymentDescription.safeParse(value);
  if (parsed.success) return { description: parsed.data };
  const unusable = parsed.error.issues.map((issue) => {
    const at = issue.path.join('.') || 'the file';
    return issue.code === 'unrecognized_keys'
      ? `"${at}" has a member this version does not know: ${issue.keys.join(', ')}`
      : valueAt(value, issue.path) === undefined
        ? `"${at}" is missing`
        : `"${at}" is not usable (${issue.code})`;
  });
  return { unusable };
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (inner, key) => (typeof inner === 'object' && inner !== null ? (inner as Record<PropertyKey, unknown>)[key] : undefined),
    value,
  );
}
