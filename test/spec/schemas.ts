import type { StoredRecord } from '@hmcp/audit';
import {
  AccessTokenClaims,
  AUDIT_EVENTS,
  Binding,
  CHECKS,
  COMPARED_SOURCES,
  ERRORS,
  PlainEnvelope,
  RefusalData,
  SealClaims,
  SealedEnvelope,
  SessionFacts,
  SwitchResult,
} from '@hmcp/core';
import * as z from 'zod';

/** A line of an audit log after its header, as JSON. The format is pinned by `@hmcp/audit`; the type below holds the two together. */
export const AuditLine = z.strictObject({
  v: z.literal(1),
  chain: z.string(),
  seq: z.int().min(1),
  b: z.int().min(1),
  t: z.int().describe('wall time in ms since the epoch'),
  event: z.enum(AUDIT_EVENTS),
  outcome: z.union([z.literal(0), z.literal(4), z.literal(8), z.literal(12)]),
  code: z.int().optional(),
  check: z.enum(CHECKS).optional(),
  reason: z.string().max(256).optional(),
  by: z.string().max(2048),
  hop: z.int().optional(),
  issuer: z.string().max(2048).optional(),
  subject: z.string().max(256).optional(),
  clientId: z.string().max(256).optional(),
  actors: z.array(z.string().max(256)).max(8).readonly().optional(),
  fhirUser: z.string().max(2048).optional(),
  jti: z.string().max(256).optional(),
  txn: z.string().max(256).optional(),
  traceparent: z.string().max(64).optional(),
  intent: z.string().max(128).optional(),
  sid: z.string().max(128).optional(),
  epoch: z.int().optional(),
  pk: z.string().max(64).optional(),
  pkScope: z.literal('local').optional(),
  method: z.string().max(128).optional(),
  tool: z.string().max(128).optional(),
  peer: z.string().max(2048).optional(),
  binding: z.enum(['none', 'checked']).optional(),
  types: z
    .record(z.string().regex(/^[A-Za-z]{1,64}$/), z.int())
    .readonly()
    .optional(),
  unverifiable: z.int().optional(),
  fence: z.literal('none').optional(),
  contextMethod: z.enum(['claim', 'envelope', 'header']).optional(),
  compared: z
    .array(
      z.strictObject({
        said: z.enum(COMPARED_SOURCES),
        argument: z.string().max(64).optional(),
        pk: z.string().max(64).optional(),
      }),
    )
    .readonly()
    .optional(),
  switchId: z.string().max(128).optional(),
  fromPk: z.string().max(64).optional(),
  toPk: z.string().max(64).optional(),
  vote: z.enum(['accept', 'accept_with_warning', 'veto', 'cannot_follow']).optional(),
  level: z.enum(['C1', 'C2']).optional(),
  evicted: z.array(z.string().max(256)).max(32).readonly().optional(),
  permit: z.string().max(128).optional(),
  waitedMs: z.int().optional(),
  folded: z.int().optional(),
  since: z.int().optional(),
  until: z.int().optional(),
  bytes: z.int().optional(),
  sha256: z.string().max(64).optional(),
  h: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
});

type Line = Omit<z.infer<typeof AuditLine>, 'h'>;
type Same<A, B> = [A, B] extends [B, A] ? ([keyof A, keyof B] extends [keyof B, keyof A] ? true : never) : never;
/** Does not compile when a member is added to, or taken from, one of the two. */
export const sameMembers: Same<Line, StoredRecord> = true;

const Refusal = z.strictObject({
  code: z.literal(Object.keys(ERRORS).map(Number)),
  message: z.string(),
  data: RefusalData,
});

/** The schemas of `docs/spec/schemas`, by file name. */
export const SCHEMAS: Readonly<Record<string, { readonly title: string; readonly schema: z.ZodType }>> = {
  'access-token': { title: 'Claims of an access token (protocol section 2.1)', schema: AccessTokenClaims },
  'audit-line': { title: 'A line of an audit log after its header (protocol section 8)', schema: AuditLine },
  binding: { title: 'Binding: what an answer says of its context (protocol section 2.4)', schema: Binding },
  'envelope-plain': { title: 'Envelope outside a session (protocol section 2.2)', schema: PlainEnvelope },
  'envelope-sealed': { title: 'Envelope inside a session (protocol section 2.2)', schema: SealedEnvelope },
  refusal: { title: 'JSON-RPC error of a refusal about patient context (protocol section 4)', schema: Refusal },
  seal: { title: 'Claims of a seal (protocol section 2.3)', schema: SealClaims },
  'session-facts': { title: 'What a manager says of a session (protocol section 6)', schema: SessionFacts },
  'switch-result': { title: 'How a switch came out (protocol section 6)', schema: SwitchResult },
};

/** JSON Schema (2020-12) of what crosses the wire. An envelope has besides at most 8192 bytes. */
export function jsonSchema(name: string): object {
  const entry = SCHEMAS[name];
  if (entry === undefined) throw new TypeError(`no schema is called ${name}`);
  const { $schema, ...schema } = z.toJSONSchema(entry.schema, { io: 'input' });
  return {
    $schema,
    title: entry.title,
    ...schema,
    ...(name === 'envelope-sealed' ? { not: { required: ['permit', 'detach'] } } : {}),
  };
}
