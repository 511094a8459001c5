import { createSealSigner, type SealFacts, type SealSigner, type TrustedManager } from '@hmcp/auth';
import {
  definePatientTool,
  type HeldPermit,
  HmcpError,
  type HmcpErrorCode,
  META,
  type PermitAuthority,
  type PermitBearer,
  type PermittedEffect,
  type VerifiedToken,
} from '@hmcp/core';
import { McpServer, type ServerContext } from '@modelcontextprotocol/server';
import { exportJWK, generateKeyPair } from 'jose';
import * as z from 'zod';
import { type AgentEnv, createHmcpHandler, type PatientToolContext, patientTool } from '../../src/index.js';
import { type Answered, type Asked, ask } from './wire.js';
import { ANN, FHIR, type World, world } from './world.js';

export const MANAGER = 'https://cm.example';
export const SID = 'ctx_1';
/** What the manager's key makes of Ann: nobody else can. */
export const PK = 'A'.repeat(43);
export const AUTHORITY = 'https://as.example';

const options = { issuer: MANAGER, trustDomain: 'ward', now: () => Date.now() } as const;

/** A signing key nobody lists, and one that the manager of {@link trusted} signs with. */
export async function signer(issuer: string = MANAGER, now: () => number = Date.now): Promise<SealSigner> {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true });
  const key = { ...(await exportJWK(privateKey)), kid: 'seal-1', alg: 'ES256' };
  return createSealSigner({ ...options, issuer, key, now });
}

export function trusted({ jwks }: SealSigner, more: Partial<TrustedManager> = {}): TrustedManager {
  return {
    issuer: MANAGER,
    resource: `${MANAGER}/mcp`,
    clientId: 'context-manager',
    keys: jwks,
    trustDomain: 'ward',
    fhirServers: [FHIR],
    tokenIssuers: [AUTHORITY],
    ...more,
  };
}

/** What a seal of Ann's session says; `more` replaces facts. */
export function facts(more: Partial<SealFacts> = {}): SealFacts {
  return {
    sub_iss: AUTHORITY,
    sub: 'dr-grey',
    azp: 'portal',
    sid: SID,
    epoch: 1,
    patient: ANN,
    fhirServer: FHIR,
    pk: PK,
    ...more,
  };
}

/** A manager's book of permits, in the words of the interface, without a wire. */
export class Permits implements PermitAuthority {
  readonly granted = new Map<string, PermittedEffect & { used: boolean; intent: string; epoch: number }>();
  readonly released: string[] = [];
  readonly bearers: PermitBearer[] = [];
  /** What every question is refused with. */
  refusing: HmcpErrorCode | Error | undefined;
  ttlMs = 10_000;
  /** Awaited before an answer. */
  hold: Promise<void> | undefined;
  /** Replaces members of an answer. */
  lies: Partial<HeldPermit> = {};

  async permit(effect: PermittedEffect, bearer: PermitBearer): Promise<HeldPermit> {
    await this.#asked(bearer);
    const { id, epoch } = bearer.intent;
    const same = [...this.granted].find(
      ([, one]) => one.intent === id && one.operation === effect.operation && one.effectKey === effect.effectKey,
    );
    const permit = same?.[0] ?? `pm_${this.granted.size + 1}`;
    this.granted.set(permit, { ...effect, intent: id, epoch, used: false });
    return this.#answer(permit, effect, epoch);
  }

  async redeem(permit: string, bearer: PermitBearer): Promise<HeldPermit> {
    await this.#asked(bearer);
    const found = this.granted.get(permit);
    if (!found || found.used || found.intent !== bearer.intent.id || found.epoch !== bearer.intent.epoch)
      throw new HmcpError(42802, { by: `${MANAGER}/mcp`, check: 'permit' });
    found.used = true;
    return this.#answer(permit, found, found.epoch);
  }

  async release(permit: string): Promise<void> {
    this.released.push(permit);
  }

  async #asked(bearer: PermitBearer): Promise<void> {
    this.bearers.push(bearer);
    await this.hold;
    if (this.refusing instanceof Error) throw this.refusing;
    if (this.refusing !== undefined)
      throw new HmcpError(this.refusing, { by: `${MANAGER}/mcp`, check: 'permit', intent: bearer.intent.id });
  }

  #answer(permit: string, { operation, effectKey }: PermittedEffect, epoch: number): HeldPermit {
    const { ttlMs } = this;
    const at = Date.now() + ttlMs;
    return { permit, sid: SID, epoch, operation, effectKey, ttlMs, expiresAt: at, usableUntil: at, ...this.lies };
  }
}

export const signOrder = definePatientTool({
  name: 'sign-order',
  scope: 'patient/MedicationRequest.u',
  onward: 'patient/MedicationRequest.u',
  effect: true,
  description: 'Signs a draft',
  input: z.object({ draft: z.string(), note: z.string().optional() }),
  output: z.object({ signed: z.string() }),
});

/** What the handlers do; each may throw. */
export interface WardDoing {
  sign?: (context: PatientToolContext, args: { draft: string }) => Promise<string> | string;
  read?: (context: PatientToolContext, ctx?: ServerContext) => Promise<object[]> | object[];
}

export interface Ward extends World {
  readonly handler: ReturnType<typeof createHmcpHandler>;
  readonly permits: Permits;
  /** Milliseconds; moved by tests. */
  readonly clock: { now: number };
  readonly own: string;
  seal(more?: Partial<SealFacts>): Promise<string>;
  token(more?: Partial<VerifiedToken>, patient?: string): string;
  /** Calls a tool with a sealed envelope, unless `meta` says otherwise. */
  call(
    tool: 'read' | 'sign-order',
    asked?: Asked & { seal?: string; meta?: object; draft?: string; more?: object },
  ): Promise<Answered>;
  readonly ran: string[];
}

export const SCOPE = 'patient/*.cruds patient/hmcp:read';

/** A sealed envelope as `_meta`. */
export function sealed(seal: unknown, more: object = {}) {
  return { [META.context]: { version: '1', seal, intent: { id: 'intent-1', epoch: 1 }, ...more } };
}

const readNotes = definePatientTool({
  name: 'read',
  scope: 'patient/Observation.rs',
  description: 'Reads',
  input: z.object({}),
  output: z.object({ found: z.array(z.looseObject({})) }),
});

/** A server that trusts one manager, with a tool that reads and one that signs. */
export async function ward(doing: WardDoing = {}, more: Partial<AgentEnv> = {}): Promise<Ward> {
  const clock = { now: Date.now() };
  const now = () => clock.now;
  const seals = await signer(MANAGER, now);
  const permits = new Permits();
  const w = world({ managers: [trusted(seals)], permits, now, ...more });
  const ran: string[] = [];
  const handler = createHmcpHandler(() => {
    const server = new McpServer({ name: 'ward', version: '1' }, { capabilities: { resources: { subscribe: true } } });
    server.registerResource('current', 'chart://current', {}, () => ({ contents: [] }));
    patientTool(server, readNotes, async (_, context) => {
      ran.push('read');
      return { found: ((await doing.read?.(context)) ?? []) as Record<string, unknown>[] };
    });
    patientTool(server, signOrder, async ({ draft }, context) => {
      ran.push('sign-order');
      const sign = doing.sign ?? ((ctx) => ctx.effect(draft, async () => 'signed'));
      return { signed: await sign(context, { draft }) };
    });
    return server;
  }, w.env);
  const issue = (extra: Partial<VerifiedToken> = {}, patient: string | undefined = ANN) =>
    w.issuer.issue(patient, { scope: SCOPE, ...extra });
  const own = issue({ sid: SID });
  const seal = (extra?: Partial<SealFacts>) => seals.sign(facts(extra));
  return {
    ...w,
    handler,
    permits,
    clock,
    own,
    seal,
    token: issue,
    ran,
    async call(tool, { seal: given, meta, draft = 'd1', more: members, ...asked } = {}) {
      const envelope = meta ?? sealed(given ?? (await seal()), members);
      const args = tool === 'read' ? {} : { draft };
      return ask(handler, 'tools/call', { name: tool, arguments: args, _meta: envelope }, { token: own, ...asked });
    },
  };
}
