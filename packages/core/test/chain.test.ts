import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Actor, type ChainClaims, type ChainRecord, checkChain, HmcpClaim, MAX_CHAIN } from '../src/index.js';

const record = (client_id: string, aud: string, scope: string): ChainRecord => ({ jti: `j-${client_id}`, client_id, aud, scope });
const act = (...outermostFirst: string[]): Actor | undefined =>
  outermostFirst.reduceRight<Actor | undefined>((inner, sub) => (inner ? { sub, act: inner } : { sub }), undefined);
const token = (client_id: string, scope: string, chain: ChainRecord[], actors: Actor | undefined): ChainClaims => ({
  client_id,
  scope,
  __hmcp: { v: 1, chain },
  ...(actors ? { act: actors } : {}),
});

// The portal launches with aud = FHIR base and exchanges its own token for triage: only the audience changes.
const toTriage = token('portal', 'patient/hmcp:read patient/Observation.rs', [], undefined);
// Triage exchanges that one for labs: it becomes record 0, triage the actor.
const first = record('portal', 'https://triage.example', 'patient/hmcp:read patient/Observation.rs');
const toLabs = token('triage', 'patient/Observation.rs', [first], act('triage'));
// Labs exchanges that one for the FHIR server: record 1, whose client is actor 0 counted from the inside.
const second = record('triage', 'https://labs.example', 'patient/Observation.rs');
const toFhir = token('labs', 'patient/Observation.rs?category=laboratory', [first, second], act('labs', 'triage'));

describe('checkChain', () => {
  it('follows three hops: one more actor, one more record, one more hop each, and the portal stays the first client', () => {
    expect(checkChain(toTriage)).toEqual({ ok: true, actors: [], hop: 1, firstClient: 'portal' });
    expect(checkChain(toLabs)).toEqual({ ok: true, actors: ['triage'], hop: 2, firstClient: 'portal' });
    expect(checkChain(toFhir)).toEqual({ ok: true, actors: ['labs', 'triage'], hop: 3, firstClient: 'portal' });
  });

  it.each([
    ['a token of a plain SMART server', { client_id: 'app', scope: 'patient/Observation.rs' }],
    ['a token without scope', { client_id: 'app' }],
    [
      'launch members that records leave out',
      token('b', 'launch/patient patient/Patient.r', [record('a', 'b', 'patient/*.r')], act('b')),
    ],
    [
      'identity that was there before',
      token('b', 'openid patient/Patient.r', [record('a', 'b', 'openid patient/*.r')], act('b')),
    ],
    [
      'a session scope that was there before',
      token('b', 'hmcp:context.participate', [record('a', 'b', 'hmcp:context.participate')], act('b')),
    ],
    [
      'an extension that was there before, word for word',
      token('b', 'https://x.example/s', [record('a', 'b', 'https://x.example/s')], act('b')),
    ],
    ['an empty scope', token('b', '', [record('a', 'b', 'patient/*.r')], act('b'))],
    [
      'two scopes of one parent together',
      token('b', 'patient/read.Observation', [record('a', 'b', 'patient/*.r patient/*.s')], act('b')),
    ],
  ])('takes %s', (_what, claims) => expect(checkChain(claims)).toMatchObject({ ok: true }));

  it('takes the longest chain and refuses one more', () => {
    const names = Array.from({ length: MAX_CHAIN + 2 }, (_, i) => `agent-${i}`);
    const build = (length: number) =>
      token(
        names[length] ?? '',
        'patient/Observation.rs',
        names.slice(0, length).map((name, i) => record(name, `${names[i + 1]}`, 'patient/Observation.rs')),
        act(...names.slice(1, length + 1).reverse()),
      );
    expect(checkChain(build(MAX_CHAIN))).toMatchObject({ ok: true, hop: MAX_CHAIN + 1, firstClient: 'agent-0' });
    expect(checkChain(build(MAX_CHAIN + 1))).toEqual({ ok: false, reason: 'chain too long' });
    expect(HmcpClaim.safeParse(build(MAX_CHAIN).__hmcp).success).toBe(true);
    expect(HmcpClaim.safeParse(build(MAX_CHAIN + 1).__hmcp).success).toBe(false);
  });

  it.each<[string, ChainClaims, string]>([
    ['an actor without a chain', token('triage', '', [], act('triage')), 'act without chain'],
    ['an actor without the claim', { client_id: 'triage', act: { sub: 'triage' } }, 'act without chain'],
    ['a chain without actors', token('triage', '', [first], undefined), 'chain without act'],
    ['an actor too many', token('labs', '', [first], act('labs', 'triage')), 'act and chain differ in length'],
    ['an actor too few', token('labs', '', [first, second], act('labs')), 'act and chain differ in length'],
    ['endless actors', token('a', '', [first], act(...Array<string>(200).fill('a'))), 'act and chain differ in length'],
    ['an outermost actor that is not the client', { ...toLabs, client_id: 'labs' }, 'outermost actor is not the client'],
    [
      'the actors inside out',
      token('triage', '', [first, second], act('triage', 'labs')),
      'chain record is not of the actor before it',
    ],
    [
      'a record of another actor',
      token('labs', '', [first, record('spy', 'l', '')], act('labs', 'triage')),
      'chain record is not of the actor before it',
    ],
    [
      'records in the wrong order',
      token('labs', '', [second, first], act('labs', 'triage')),
      'chain record is not of the actor before it',
    ],
    ['the client in another case', { ...toLabs, client_id: 'Triage' }, 'outermost actor is not the client'],
  ])('refuses %s', (_what, claims, reason) => expect(checkChain(claims)).toEqual({ ok: false, reason }));

  it.each([
    ['interactions', 'patient/Observation.r', 'patient/Observation.rs'],
    ['the type', 'patient/Observation.rs', 'patient/*.rs'],
    ['the constraint', 'patient/Observation.rs?category=laboratory', 'patient/Observation.rs'],
    ['the level', 'patient/Observation.rs', 'user/Observation.rs'],
    ['the pin', 'patient/hmcp:read', 'hmcp:read'],
    ['by identity', 'patient/Patient.r', 'fhirUser patient/Patient.r'],
    ['by control', 'patient/Patient.r', 'hmcp:context.switch'],
    ['by access', 'patient/Patient.r', 'hmcp:access'],
    ['by something unknown', 'patient/Patient.r', 'nonsense'],
    ['by an extension', 'patient/Patient.r', 'https://x.example/s'],
    ['from nothing', '', 'patient/Patient.r'],
  ])('refuses a scope that widened %s, at the last step and at an earlier one', (_what, before, after) => {
    const widened = { ok: false, reason: 'scope widened along the chain' };
    expect(checkChain(token('b', after, [record('a', 'b', before)], act('b')))).toEqual(widened);
    const earlier = [record('a', 'b', before), record('b', 'c', after)];
    expect(checkChain(token('c', '', earlier, act('c', 'b')))).toEqual(widened);
  });

  it('judges any chain as a plain restatement of the rule does', () => {
    const name = fc.constantFrom('a', 'b', 'c');
    const chains = fc.record({
      client: name,
      records: fc.array(name, { maxLength: 3 }),
      actors: fc.array(name, { maxLength: 3 }),
    });
    fc.assert(
      fc.property(chains, ({ client, records, actors }) => {
        const inside = [...actors].reverse();
        const expected =
          actors.length === records.length &&
          (actors.length === 0 || inside.at(-1) === client) &&
          records.every((by, i) => i === 0 || by === inside[i - 1]);
        const chain = records.map((by) => record(by, 'x', 'patient/*.r'));
        expect(checkChain(token(client, 'patient/Patient.r', chain, act(...actors))).ok).toBe(expected);
      }),
      { numRuns: 1000 },
    );
  });
});
