import { createTokenVerifier, ExchangeRefused, type TokenExchanger, type TokenVerifier } from '@hmcp/auth';
import { MANAGER_METHODS, MANAGER_TOOLS, SessionFacts, SwitchResult } from '@hmcp/core';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose';
import * as z from 'zod';
import { type ContextManager, type ContextStore, createContextManager, memoryStore } from '../../src/index.js';
import type { ManagedClient, ParticipantLink } from '../../src/participants.js';
import { type HandClock, handClock } from './clock.js';

export const MANAGER = 'https://manager.example/mcp';
export const ISSUER = 'https://as.example';
export const FHIR = 'https://fhir.example/r4';
export const TRUST_DOMAIN = 'https://clinic.example';

/** Synthetic people. */
export const PEOPLE: Readonly<Record<string, unknown>> = {
  A1: person('A1', 'Ann', '1950-02-01', 'rec-0004410'),
  B7: person('B7', 'Bo', '1961-11-23', 'rec-0009b21'),
  C3: person('C3', 'Cy', '1972', 'rec-1'),
};

function person(id: string, given: string, birthDate: string, value: string): unknown {
  const identifier = [{ type: { coding: [{ code: 'MR' }] }, value }];
  return { resourceType: 'Patient', id, name: [{ family: 'Example', given: [given] }], birthDate, gender: 'female', identifier };
}

/** What to type for B7. */
export const B_RIGHT = { birthDate: '1961-11-23', recordNumberLast4: '9b21' };

async function key(kid: string): Promise<{ secret: CryptoKey; jwk: JWK; publicJwk: JWK }> {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
  const publicJwk = { ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' };
  return { secret: privateKey, jwk: { ...(await exportJWK(privateKey)), kid, alg: 'ES256' }, publicJwk };
}

/** Claims of a token; `undefined` leaves a member out. */
export type Claims = Readonly<Record<string, unknown>>;

/** The portal in the person's hands, naming a patient. */
export function portal(patient: string, more: Claims = {}): Claims {
  const scope = 'hmcp:context.switch hmcp:context.participate patient/Patient.r patient/Observation.rs';
  return { sub: 'alice', client_id: 'portal', scope, patient, ...more };
}

/** An agent behind the portal, with the person's token. */
export function agent(clientId: string, patient: string, more: Claims = {}): Claims {
  const scope = 'hmcp:context.participate patient/Observation.rs';
  const wide = 'hmcp:context.switch hmcp:context.participate patient/*.cruds';
  const record = { jti: 'j0', client_id: 'portal', aud: `https://${clientId}.example/mcp`, scope: wide };
  const chain = [record];
  return { sub: 'alice', client_id: clientId, scope, patient, act: { sub: clientId }, __hmcp: { v: 1, chain }, ...more };
}

/** A participant that acts for itself. */
export function itself(clientId: string, more: Claims = {}): Claims {
  return { sub: clientId, client_id: clientId, scope: 'hmcp:context.participate', ...more };
}

export interface World {
  readonly manager: ContextManager;
  readonly store: ContextStore;
  readonly clock: HandClock;
  /** Patients that can be read now. */
  readonly readable: Set<string>;
  /** Turns the FHIR server or the exchange off. */
  readonly faults: { fhirDown: boolean; exchangeRefused: boolean };
  readonly dialogs: { message: string; requestedSchema: unknown }[];
  mint(claims: Claims, more?: { readonly header?: Claims }): Promise<string>;
  /** A client of the manager; each call carries the token made for it. */
  caller(claims: Claims | (() => Claims), answers?: readonly unknown[], options?: ClientChoice): Promise<Caller>;
  close(): Promise<void>;
}

export interface ClientChoice {
  readonly legacy?: boolean;
  readonly elicitation?: boolean;
}

export interface Caller {
  readonly client: Client;
  open(args?: Claims): Promise<SessionFacts>;
  tool(name: string, args: Claims): Promise<unknown>;
  switch(args: Claims): Promise<SwitchResult>;
  method(method: string, params: Claims): Promise<Record<string, unknown>>;
  get(params: Claims): Promise<SessionFacts>;
}

export const CLIENTS: readonly ManagedClient[] = [
  { clientId: 'portal', name: 'Portal', humanUi: true },
  { clientId: 'kiosk', name: 'Kiosk', humanUi: true },
  { clientId: 'robot', name: 'Robot' },
  { clientId: 'triage', name: 'Triage' },
  { clientId: 'labs', name: 'Labs' },
  {
    clientId: 'orders',
    name: 'Orders',
    effector: true,
    endpoint: { url: 'https://orders.example/mcp', resource: 'https://orders.example/mcp' },
  },
];

/** A manager in process: tokens of one issuer, a FHIR server of three people, a hand-moved clock. */
export async function world(
  options: {
    store?: ContextStore;
    link?: ParticipantLink;
    verifier?: TokenVerifier | undefined;
    clients?: readonly ManagedClient[];
  } = {},
): Promise<World> {
  const clock = handClock();
  const [as, seal] = await Promise.all([key('as'), key('seal')]);
  const store = options.store ?? memoryStore();
  const readable = new Set(Object.keys(PEOPLE));
  const faults = { fhirDown: false, exchangeRefused: false };
  const tokens: TokenExchanger = {
    exchange: async ({ scope }) => {
      if (faults.exchangeRefused) throw new ExchangeRefused('invalid_grant');
      return { accessToken: 'fhir-token', scope, expiresAt: clock.now() / 1000 + 60 };
    },
  };
  const manager = await createContextManager({
    resource: MANAGER,
    clientId: 'manager',
    trustDomain: TRUST_DOMAIN,
    authorizationServers: [ISSUER],
    fhirServers: [FHIR],
    verifier:
      options.verifier ??
      createTokenVerifier({
        resource: MANAGER,
        issuers: [{ issuer: ISSUER, fhirServer: FHIR, jwks: { keys: [as.publicJwk] } }],
        now: clock.now,
      }),
    store,
    sealKey: seal.jwk,
    tenantKey: 'tenant-key-of-tests',
    pseudonymKey: 'pseudonym-key-of-tests',
    clients: options.clients ?? CLIENTS,
    tokens,
    participants: options.link,
    policy: { decide: async ({ patient }) => (patient === 'B7' ? 'allow' : 'deny') },
    clock,
    fetch: async (input) => {
      if (faults.fhirDown) return new Response(null, { status: 503 });
      const id = String(input).split('/').at(-1) ?? '';
      return readable.has(id) ? Response.json(PEOPLE[id]) : new Response(null, { status: 404 });
    },
  });

  let serial = 0;
  const mint = (claims: Claims, { header = {} }: { readonly header?: Claims } = {}): Promise<string> => {
    const at = Math.floor(clock.now() / 1000);
    serial += 1;
    const payload = { iss: ISSUER, aud: MANAGER, jti: `j${serial}`, iat: at, exp: at + 600, ...claims };
    return new SignJWT(payload).setProtectedHeader({ alg: 'ES256', kid: 'as', typ: 'at+jwt', ...header }).sign(as.secret);
  };
  const dialogs: World['dialogs'] = [];
  const clients: Client[] = [];

  return {
    manager,
    store,
    clock,
    readable,
    faults,
    dialogs,
    mint,
    async caller(claims, answers = [], { legacy = false, elicitation = true } = {}) {
      const left = [...answers];
      const client = new Client(
        { name: 'test', version: '1' },
        {
          capabilities: elicitation ? { elicitation: { form: {} } } : {},
          versionNegotiation: { mode: legacy ? 'legacy' : { pin: '2026-07-28' } },
        },
      );
      if (elicitation) {
        client.setRequestHandler('elicitation/create', async ({ params }) => {
          dialogs.push(params as World['dialogs'][number]);
          const next = left.shift();
          if (next === undefined) throw new Error('nobody answers');
          return (typeof next === 'string' ? { action: next } : { action: 'accept', content: next }) as never;
        });
      }
      const transport = new StreamableHTTPClientTransport(new URL(MANAGER), {
        fetch: async (input, init) => {
          const headers = new Headers(init?.headers);
          headers.set('Authorization', `Bearer ${await mint(typeof claims === 'function' ? claims() : claims)}`);
          return manager.fetch(new Request(String(input), { ...init, headers } as RequestInit));
        },
      });
      await client.connect(transport);
      clients.push(client);
      const tool = async (name: string, args: Claims): Promise<unknown> => {
        const result = await client.callTool({ name, arguments: { ...args } });
        return result.structuredContent;
      };
      const method = (name: string, params: Claims): Promise<Record<string, unknown>> =>
        client.request({ method: name, params: { ...params } }, z.looseObject({}));
      return {
        client,
        tool,
        method,
        open: async (args = {}) => {
          const patient = (typeof claims === 'function' ? claims() : claims).patient;
          const all = { idempotencyKey: 'o1', target: { patient }, participants: ['triage', 'labs', 'orders'], ...args };
          return SessionFacts.parse(await tool(MANAGER_TOOLS.open, all));
        },
        switch: async (args) => SwitchResult.parse(await tool(MANAGER_TOOLS.switch, args)),
        get: async (params) => SessionFacts.parse(await method(MANAGER_METHODS.get, params)),
      };
    },
    async close() {
      await Promise.allSettled(clients.map((client) => client.close()));
      await manager.close();
      await store.close();
    },
  };
}
