import { FhirId, parseScopes } from '@hmcp/core';
import * as z from 'zod';

/** RFC 8693 grant type of a token exchange. */
export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';

const LOOPBACK = /^(127\.0\.0\.1|\[::1\]|localhost)$/;

/** `https:`, or `http:` to loopback only. @see protocol section 9 */
const SafeUrl = z.url().refine((text) => {
  const url = new URL(text);
  return url.protocol === 'https:' || (url.protocol === 'http:' && LOOPBACK.test(url.hostname));
}, 'must be https, or http on loopback');

const Issuer = SafeUrl.refine((text) => new URL(text).origin === text, 'must be an origin: no path, no trailing slash');

const ScopeList = z
  .string()
  .refine((text) => parseScopes(text).every((scope) => scope.kind !== 'unknown'), 'holds a scope nobody understands');

/** A person whose record can be opened; what the picker shows, and nothing more. */
export const Person = z.strictObject({
  id: FhirId,
  name: z.string().min(1).max(200),
  birthDate: z.string().regex(/^\d{4}(-\d{2}(-\d{2})?)?$/),
  gender: z.enum(['male', 'female', 'other', 'unknown']).optional(),
  /** Last four characters of the identifier people know the person by. */
  identifierLast4: z
    .string()
    .regex(/^[A-Za-z0-9]{1,4}$/)
    .optional(),
});
export type Person = z.infer<typeof Person>;

/** Somebody who can sign in, and the patients this person may open (`"*"`: everybody in `people`). */
export const Account = z.strictObject({
  username: z.string().min(1).max(128),
  password: z.string().min(1).max(256),
  name: z.string().min(1).max(200),
  /** Relative reference under the FHIR base, such as `Practitioner/p1`. */
  fhirUser: z.string().regex(/^(Practitioner|Patient|RelatedPerson|Person)\/[A-Za-z0-9\-.]{1,64}$/),
  patients: z.union([z.literal('*'), z.array(FhirId)]),
});
export type Account = z.infer<typeof Account>;

const PublicKeys = z.strictObject({
  keys: z.array(z.looseObject({ kty: z.enum(['EC', 'RSA']), kid: z.string().min(1), d: z.exactOptional(z.never()) })).min(1),
});

/**
 * A registered client. With `jwks` it authenticates by `private_key_jwt`; without, it is public and may only launch.
 * `scope` is the most it can ever be granted. `resource` is its own identifier when it is an agent;
 * `targets` are the resources for which it may exchange a token issued to itself.
 * @see protocol section 5
 */
export const ClientRegistration = z
  .strictObject({
    clientId: z.string().regex(/^[A-Za-z0-9._~:/-]{1,128}$/),
    name: z.string().min(1).max(100),
    redirectUris: z.array(SafeUrl).default([]),
    resource: SafeUrl.optional(),
    targets: z.array(SafeUrl).default([]),
    scope: ScopeList,
    jwks: PublicKeys.optional(),
    grants: z.array(z.enum(['authorization_code', 'refresh_token', 'client_credentials', 'token-exchange'])).min(1),
  })
  .refine((client) => client.grants.includes('authorization_code') === client.redirectUris.length > 0, {
    message: '"redirectUris" belong to the grant "authorization_code", and to no other',
  })
  .refine(
    (client) => client.jwks || client.grants.every((grant) => grant === 'authorization_code' || grant === 'refresh_token'),
    {
      message: 'a client without "jwks" is public: it may use "authorization_code" and "refresh_token" only',
    },
  );
export type ClientRegistration = z.infer<typeof ClientRegistration>;

/** Public keys of seals; a private one in a trust list is a mistake. */
const SealKeys = z.object({
  keys: z.array(z.looseObject({ kty: z.enum(['EC', 'OKP']), kid: z.string().min(1), d: z.exactOptional(z.never()) })).min(1),
});

/**
 * A context manager whose seals are believed, as every server lists it. Nothing about it is discovered from a seal.
 * @see protocol section 1
 */
export const Manager = z
  .strictObject({
    /** `iss` of its seals. */
    issuer: SafeUrl,
    /** Its own resource identifier. */
    resource: SafeUrl,
    /** Its client identifier here. */
    clientId: z.string().min(1).max(256),
    /** Where its public seal keys are, unless `keys` holds them. */
    jwksUri: SafeUrl.optional(),
    keys: SealKeys.optional(),
    /** `aud` of its seals. */
    trustDomain: z.string().min(1).max(256),
    fhirServers: z.array(SafeUrl).min(1),
    tenants: z.array(z.string().min(1).max(128)).min(1).optional(),
    /** Issuers of the tokens its sessions belong to. */
    tokenIssuers: z.array(SafeUrl).min(1),
  })
  .refine((manager) => (manager.jwksUri === undefined) !== (manager.keys === undefined), {
    message: 'names either "jwksUri" or "keys"',
  });
export type Manager = z.infer<typeof Manager>;

/**
 * A resource tokens can be minted for (their `aud`). A token exchanged for it holds nothing beyond `scopesSupported`; with an empty
 * list the caller's token and registration alone bound it.
 * @see protocol section 5
 */
export const Resource = z.strictObject({ resource: SafeUrl, scopesSupported: z.array(ScopeList).default([]) });
export type Resource = z.infer<typeof Resource>;

/**
 * Configuration of the development authorization server, strict: an unknown key is an error.
 * Passwords and people are synthetic; the server refuses to start with `NODE_ENV=production`.
 */
export const AuthorizationServerConfig = z
  .strictObject({
    /** The issuer: the origin clients reach this server at, through a proxy that keeps the `Host` header. */
    publicUrl: Issuer,
    /** Base URL of the FHIR server whose patients are chosen here; itself a resource. */
    fhirServer: SafeUrl,
    /** Put into every token of a person, when this server serves one tenant of several. */
    tenant: z.string().min(1).max(128).optional(),
    /** Folder of everything this server keeps; made with mode 0700. */
    state: z.string().min(1),
    /** Private JWK set; made with mode 0600 when absent. @default `<state>/authorization-server-keys.json` */
    keysFile: z.string().min(1).optional(),
    /** @default `<state>/authorization-server-audit.jsonl` */
    auditFile: z.string().min(1).optional(),
    /** Key of patient keys and hashes in the audit, base64url, at least 32 bytes. */
    pseudonymKey: z.string().regex(/^[A-Za-z0-9_-]{43,}$/),
    people: z.array(Person),
    accounts: z.array(Account),
    clients: z.array(ClientRegistration),
    resources: z.array(Resource),
    /** Context managers whose seals give an exchanged token its session. @default [], every `hmcp_seal` is refused */
    managers: z.array(Manager).default([]),
    /** Life of a launch token in seconds. @default 3600 */
    accessTokenSeconds: z.int().min(30).max(3600).default(3600),
    /** Longest life of an exchanged token in seconds. @default 120 */
    exchangeSeconds: z.int().min(5).max(300).default(120),
  })
  .superRefine((config, context) => {
    const unique = (path: string, names: readonly string[]) => {
      if (new Set(names).size !== names.length)
        context.addIssue({ code: 'custom', path: [path], message: 'names one thing twice' });
    };
    const people = new Set(config.people.map((person) => person.id));
    const resources = new Set([config.fhirServer, ...config.resources.map(({ resource }) => resource)]);
    unique('people', [...config.people.map((person) => person.id)]);
    unique('resources', [...config.resources.map(({ resource }) => resource)]);
    unique(
      'clients',
      config.clients.flatMap((client) => client.resource ?? []),
    );
    // A token's `sub` equals its `client_id` exactly when no human stands behind it, so the two must never meet.
    unique('accounts', [
      ...config.accounts.map((account) => account.username),
      ...config.clients.map((client) => client.clientId),
    ]);
    config.accounts.forEach((account, index) => {
      if (account.patients !== '*' && !account.patients.every((id) => people.has(id)))
        context.addIssue({
          code: 'custom',
          path: ['accounts', index, 'patients'],
          message: 'lists somebody who is not in "people"',
        });
    });
    config.clients.forEach((client, index) => {
      if (![...client.targets, ...(client.resource === undefined ? [] : [client.resource])].every((uri) => resources.has(uri)))
        context.addIssue({ code: 'custom', path: ['clients', index], message: 'names a resource that is not in "resources"' });
    });
  });
export type AuthorizationServerConfig = z.infer<typeof AuthorizationServerConfig>;
/** What a configuration file holds: {@link AuthorizationServerConfig} before its defaults are filled in. */
export type AuthorizationServerConfigInput = z.input<typeof AuthorizationServerConfig>;

/**
 * Reads a configuration. @throws {TypeError} naming each wrong key, never its value (it may be a password or a name)
 */
export function parseConfig(value: unknown): AuthorizationServerConfig {
  const parsed = AuthorizationServerConfig.safeParse(value);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => `"${issue.path.join('.')}" ${describe(issue)}`);
  throw new TypeError(`the configuration of the authorization server is not usable: ${faults.join('; ')}`);
}

function describe(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys') return `has unknown keys: ${issue.keys.join(', ')}`;
  return issue.code === 'custom' ? issue.message : issue.code.replaceAll('_', ' ');
}
