import { isDeepStrictEqual } from 'node:util';
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
  readonly outcome: Outcome;
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
type Outcome = Readonly<Record<string, unknown>>;
/** Seconds an exchanged token may live. */
const LONGEST_LIFE = 120;
/** Seconds a client's own token may live. */
const LONGEST_OWN = 300;
/** Seconds a launch may last. */
const LONGEST_LAUNCH = 3600;

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
  const life = (claims.exp ?? Number.POSITIVE_INFINITY) - (claims.iat ?? 0);
  const launched = actors.length === 0 && claims.aud === url('fhir');
  const longest = claims.patient === undefined ? LONGEST_OWN : launched ? LONGEST_LAUNCH : LONGEST_LIFE;
  return {
    ...(claims.patient === undefined ? {} : { patient: claims.patient }),
    clientId: claims.client_id,
    aud: nameOf(claims.aud),
    scope: claims.scope,
    actors,
    chain: chain.map(({ client_id: clientId, aud, scope }) => ({ clientId, aud: nameOf(aud), scope })),
    ...(sid === undefined ? {} : { sid }),
    ...(life > longest ? { life } : {}),
  };
}

function altered(token: string, alter: Exchange['alter']): string {
  if (alter === undefined) return token;
  const [header = '', payload = '', signature = ''] = token.split('.');
  if (Object.keys(alter).length === 0) return `${header}.${payload}.`;
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
  return `${header}.${Buffer.from(JSON.stringify({ ...claims, ...alter })).toString('base64url')}.${signature}`;
}

/** Runs rows at one server; what a row needs is made once, along its own path. */
class Runner {
  readonly #server: IssuerUnderTest;
  readonly #subjects = new Map<string, Promise<string>>();

  constructor(server: IssuerUnderTest) {
    this.#server = server;
  }

  /** What became of a launch: its scope, which the person may narrow, is looked at apart. */
  async launch({ scope }: { readonly scope: string }): Promise<Outcome> {
    const { scope: granted, ...said } = this.#said(await this.#server.launch(scope));
    return 'error' in said || `${granted}`.includes('patient/Observation.rs') ? said : { ...said, scope: granted };
  }

  async exchange(row: Exchange): Promise<Outcome> {
    return this.#said(await this.#exchange(row));
  }

  async itself({ caller, resource, scope, signedBy }: TokenVectors['itself'][number]): Promise<Outcome> {
    const form: [string, string][] = [
      ['grant_type', 'client_credentials'],
      ['resource', this.#server.url(resource)],
      ['scope', scope],
    ];
    return this.#said(await this.#server.token(caller, form, signedBy));
  }

  #said({ error, accessToken }: Answer): Outcome {
    return accessToken === undefined ? { error } : told(decodeJwt(accessToken), this.#server.url);
  }

  #subject(name: string): Promise<string> {
    const made = this.#subjects.get(name) ?? this.#make(name);
    this.#subjects.set(name, made);
    return made;
  }

  async #make(name: string): Promise<string> {
    const way = vectors.subjects[name];
    if (way === undefined) throw new Error(`the vectors have no subject "${name}"`);
    if ('is' in way) return way.is;
    const { accessToken, error } = 'caller' in way ? await this.#exchange(way) : await this.#server.launch(way.scope);
    if (accessToken === undefined) throw new Error(`subject "${name}" was refused: ${error}`);
    return accessToken;
  }

  async #exchange(row: Exchange): Promise<Answer> {
    const { caller, resource, scope, seal, sealAgeSeconds = 0, alter, parameters = {}, signedBy } = row;
    const form: [string, string][] = [
      ['grant_type', 'urn:ietf:params:oauth:grant-type:token-exchange'],
      ['subject_token', altered(await this.#subject(row.subject), alter)],
      ...[resource].flat().map((name): [string, string] => ['resource', this.#server.url(name)]),
      ['scope', scope],
    ];
    const type: [string, string] = ['subject_token_type', 'urn:ietf:params:oauth:token-type:access_token'];
    if (parameters.subject_token_type === undefined) form.push(type);
    if (seal !== undefined) form.push(['hmcp_seal', await this.#server.seal(seal, sealAgeSeconds)]);
    form.push(...Object.entries(parameters));
    this.#server.clock.ahead = (row.afterSeconds ?? 0) * 1000;
    try {
      return await this.#server.token(caller, form, signedBy);
    } finally {
      this.#server.clock.ahead = 0;
    }
  }
}

describe.each<[string, typeof ofTestbed]>([
  ['the issuer of testbeds', ofTestbed],
  ['the authorization server for development', ofDevelopment],
])('the vectors of tokens, at %s,', (_, open) => {
  let server: IssuerUnderTest;
  let runner: Runner;
  beforeAll(async () => {
    server = await open(vectors.clients);
    runner = new Runner(server);
  });
  afterAll(() => server.close());

  it.each(vectors.launch)('hold for a launch: $note', async (row) => {
    expect(await runner.launch(row)).toEqual(row.outcome);
  });

  it.each(vectors.exchange)('hold for an exchange: $note', async (row) => {
    expect(await runner.exchange(row)).toEqual(row.outcome);
  });

  it.each(vectors.itself)('hold for a client that acts for itself: $note', async (row) => {
    expect(await runner.itself(row)).toEqual(row.outcome);
  });
});

describe('the vectors of tokens', () => {
  type Form = readonly [string, string][];
  const without = (form: Form, names: readonly string[]): Form => form.filter(([name]) => !names.includes(name));

  it.each<[string, (form: Form) => Form, string]>([
    ['does not look at seals', (form) => without(form, ['hmcp_seal']), 'a seal of another patient'],
    ['passes over what names a patient', (form) => without(form, ['patient', 'tenant']), 'a parameter "patient"'],
    ['takes the first of two resources', (form) => form.filter(([name], at) => name !== 'resource' || at === 2), 'two resources'],
    [
      'drops scopes it cannot grant',
      (form) => form.map(([n, v]) => [n, v.replace(' made-up', '')]),
      'a member nobody knows beside one that is granted',
    ],
  ])('catch an issuer that %s', async (_, change, note) => {
    const sound = await ofTestbed(vectors.clients);
    const runner = new Runner({ ...sound, token: (clientId, form, signedBy) => sound.token(clientId, change(form), signedBy) });
    const wrong: string[] = [];
    for (const row of vectors.exchange) if (!isDeepStrictEqual(await runner.exchange(row), row.outcome)) wrong.push(row.note);
    expect(wrong).toContain(note);
  });
});
