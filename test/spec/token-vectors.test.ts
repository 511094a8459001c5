import type { SealFacts } from '@hmcp/auth';
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readText } from '../architecture/workspace.js';
import { type Answer, type IssuerUnderTest, ofDevelopment, ofTestbed, type VectorClient } from './token-issuers.js';

interface Exchange {
  readonly caller: string;
  readonly subject: string;
  readonly resource: string | readonly string[];
  readonly scope: string;
  readonly seal?: Partial<SealFacts>;
  readonly sealAgeSeconds?: number;
  readonly afterSeconds?: number;
  readonly alter?: Readonly<Record<string, string>>;
  readonly parameters?: Readonly<Record<string, string>>;
  readonly signedBy?: string;
}

interface Row {
  readonly note: string;
  /** `error`, or what the token says; members that are not named must not be there. */
  readonly outcome: Readonly<Record<string, unknown>>;
}

/** `token` of `docs/spec/vectors.json`. */
interface TokenVectors {
  readonly clients: Readonly<Record<string, VectorClient>>;
  readonly subjects: Readonly<Record<string, Exchange | { readonly scope: string } | { readonly is: string }>>;
  readonly launch: readonly (Row & { scope: string })[];
  readonly exchange: readonly (Row & Exchange)[];
  readonly itself: readonly (Row & { caller: string; resource: string; scope: string; signedBy?: string })[];
}

const vectors = (JSON.parse(readText('docs/spec/vectors.json')) as { token: TokenVectors }).token;
const LONGEST_LIFE = 120;

interface Claims {
  readonly patient?: string;
  readonly client_id?: string;
  readonly aud?: string;
  readonly scope?: string;
  readonly act?: { readonly sub: string; readonly act?: Claims['act'] };
  readonly __hmcp?: { readonly sid?: string; readonly chain?: readonly { client_id: string; aud: string; scope: string }[] };
  readonly iat?: number;
  readonly exp?: number;
}

/** A token in the words of the vectors: resources by name, actors outermost first. */
function told(claims: Claims, url: (name: string) => string): Record<string, unknown> {
  const nameOf = (address = ''): string =>
    ['fhir', 'manager', 'triage', 'labs', 'medications'].find((name) => url(name) === address) ?? address;
  const actors: string[] = [];
  for (let actor = claims.act; actor !== undefined; actor = actor.act) actors.push(actor.sub);
  const { sid, chain = [] } = claims.__hmcp ?? {};
  return {
    ...(claims.patient === undefined ? {} : { patient: claims.patient }),
    clientId: claims.client_id,
    aud: nameOf(claims.aud),
    scope: claims.scope,
    actors,
    chain: chain.map(({ client_id: clientId, aud, scope }) => ({ clientId, aud: nameOf(aud), scope })),
    ...(sid === undefined ? {} : { sid }),
  };
}

function altered(token: string, alter: Exchange['alter']): string {
  if (alter === undefined) return token;
  const [header = '', payload = '', signature = ''] = token.split('.');
  if (Object.keys(alter).length === 0) return `${header}.${payload}.`;
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
  return `${header}.${Buffer.from(JSON.stringify({ ...claims, ...alter })).toString('base64url')}.${signature}`;
}

describe.each<[string, typeof ofTestbed]>([
  ['the issuer of testbeds', ofTestbed],
  ['the authorization server for development', ofDevelopment],
])('the vectors of tokens, at %s', (_, open) => {
  let server: IssuerUnderTest;
  const subjects = new Map<string, Promise<string>>();
  beforeAll(async () => {
    server = await open(vectors.clients);
  });
  afterAll(() => server.close());

  /** A subject by its name; made once, along its own path. */
  function subject(name: string): Promise<string> {
    const made = subjects.get(name) ?? make(name);
    subjects.set(name, made);
    return made;
  }

  async function make(name: string): Promise<string> {
    const way = vectors.subjects[name];
    if (way === undefined) throw new Error(`the vectors have no subject "${name}"`);
    if ('is' in way) return way.is;
    const { accessToken, error } = 'caller' in way ? await exchange(way) : await server.launch(way.scope);
    if (accessToken === undefined) throw new Error(`subject "${name}" was refused: ${error}`);
    return accessToken;
  }

  async function exchange(row: Exchange): Promise<Answer> {
    const { caller, resource, scope, seal, sealAgeSeconds = 0, alter, parameters = {}, signedBy } = row;
    const form: [string, string][] = [
      ['grant_type', 'urn:ietf:params:oauth:grant-type:token-exchange'],
      ['subject_token', altered(await subject(row.subject), alter)],
      ...[resource].flat().map((name): [string, string] => ['resource', server.url(name)]),
      ['scope', scope],
    ];
    const type: [string, string] = ['subject_token_type', 'urn:ietf:params:oauth:token-type:access_token'];
    if (parameters.subject_token_type === undefined) form.push(type);
    if (seal !== undefined) form.push(['hmcp_seal', await server.seal(seal, sealAgeSeconds)]);
    form.push(...Object.entries(parameters));
    server.clock.ahead = (row.afterSeconds ?? 0) * 1000;
    try {
      return await server.token(caller, form, signedBy);
    } finally {
      server.clock.ahead = 0;
    }
  }

  function judge({ error, accessToken }: Answer, outcome: Row['outcome']): Claims {
    const claims: Claims = accessToken === undefined ? {} : decodeJwt(accessToken);
    expect(accessToken === undefined ? { error } : told(claims, server.url)).toEqual(outcome);
    return claims;
  }

  it.each(vectors.launch)('hold for a launch: $note', async ({ scope, outcome }) => {
    const { error, accessToken } = await server.launch(scope);
    const claims: Claims = accessToken === undefined ? {} : decodeJwt(accessToken);
    const { scope: granted, ...said } = told(claims, server.url);
    expect(accessToken === undefined ? { error } : said).toEqual(outcome);
    if (accessToken !== undefined) expect(`${granted}`).toContain('patient/Observation.rs');
  });

  it.each(vectors.exchange)('hold for an exchange: $note', async (row) => {
    const claims = judge(await exchange(row), row.outcome);
    if (!('error' in row.outcome)) expect((claims.exp ?? 0) - (claims.iat ?? 0)).toBeLessThanOrEqual(LONGEST_LIFE);
  });

  it.each(vectors.itself)('hold for a client that acts for itself: $note', async ({
    caller,
    resource,
    scope,
    signedBy,
    outcome,
  }) => {
    const form: [string, string][] = [
      ['grant_type', 'client_credentials'],
      ['resource', server.url(resource)],
      ['scope', scope],
    ];
    judge(await server.token(caller, form, signedBy), outcome);
  });
});
