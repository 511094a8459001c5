import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { createSealSigner, createSealVerifier, type TrustedManager } from '../src/index.js';
import { signingKey } from './support/issuer.js';

const { publicJwk, privateJwk } = await signingKey('seal-1');
const { publicJwk: edwards } = await signingKey('seal-2', 'EdDSA');
const { publicJwk: rsa } = await signingKey('seal-3', 'RS256');
const { publicJwk: wider } = await signingKey('seal-4', 'ES384');
const { publicJwk: stranger } = await signingKey('seal-5');
const manager: TrustedManager = {
  issuer: 'https://manager.example',
  resource: 'https://manager.example/mcp',
  clientId: 'manager',
  keys: { keys: [publicJwk] },
  trustDomain: 'clinic',
  fhirServers: ['https://fhir.example/r4'],
  tokenIssuers: ['https://as.example'],
};
const x = String(publicJwk.x);
const y = String(publicJwk.y);

/** What a start with these keys, or another entry, says; `undefined` when it starts. */
function saidAtStart(change: object): string | undefined {
  try {
    createSealVerifier({ managers: [{ ...manager, ...change } as TrustedManager] });
    return undefined;
  } catch (error) {
    return error instanceof TypeError ? error.message : `no TypeError: ${String(error)}`;
  }
}

describe('the keys of a trusted manager, at start', () => {
  it.each([
    ['of ES256', publicJwk],
    ['of EdDSA', edwards],
    ['without alg and use', { ...publicJwk, alg: undefined, use: undefined }],
    ['for verifying', { ...publicJwk, key_ops: ['verify'] }],
    ['with a member nobody knows', { ...publicJwk, note: 'of the clinic' }],
  ])('%s are taken', (_, key) => {
    expect(saidAtStart({ keys: { keys: [key] } })).toBeUndefined();
  });

  it('are taken as a signer publishes them', async () => {
    const { jwks } = await createSealSigner({ issuer: manager.issuer, trustDomain: manager.trustDomain, key: privateJwk });
    expect(saidAtStart({ keys: jwks })).toBeUndefined();
  });

  it.each<[string, unknown, string]>([
    ['that is no point of its curve', { ...publicJwk, x: stranger.x }, 'no point of its curve'],
    ['whose x is cut', { ...publicJwk, x: x.slice(0, -1) }, 'no usable "x"'],
    ['whose y is cut', { ...publicJwk, y: y.slice(0, 20) }, 'no usable "y"'],
    ['whose x is ???', { ...publicJwk, x: '???' }, 'no usable "x"'],
    ['whose x is no base64url', { ...publicJwk, x: `${x.slice(0, -1)}=` }, 'no usable "x"'],
    ['without x', { ...publicJwk, x: undefined }, 'no usable "x"'],
    ['whose x is a number', { ...publicJwk, x: 4711 }, 'no usable "x"'],
    ['of EdDSA whose x is cut', { ...edwards, x: String(edwards.x).slice(1) }, 'no usable "x"'],
    ['with its private member', privateJwk, 'is a private key'],
    ['with an empty private member', { ...publicJwk, d: '' }, 'is a private key'],
    ['that is a shared secret', { kty: 'oct', k: 'c2VjcmV0', kid: 'seal-1' }, 'is a private key'],
    ['of RSA', rsa, 'algorithm that seals do not use: ES256 or EdDSA'],
    ['of ES384', wider, 'algorithm that seals do not use'],
    ['that says it is of another algorithm', { ...publicJwk, alg: 'ES384' }, 'algorithm that seals do not use'],
    ['of no kind', {}, 'algorithm that seals do not use'],
    ['without kid', { ...publicJwk, kid: undefined }, 'has no "kid"'],
    ['for encryption', { ...publicJwk, use: 'enc' }, 'by its "use"'],
    ['for signing alone', { ...publicJwk, key_ops: ['sign'] }, 'by its "key_ops"'],
    ['that is text', 'seal-1', 'is no JWK'],
    ['that is null', null, 'is no JWK'],
  ])('one %s is refused, naming the key and no value of it', (_, key, why) => {
    const said = saidAtStart({ keys: { keys: [publicJwk, key] } });
    expect(said).toContain('"managers[0].keys.keys[1]"');
    expect(said).toContain(why);
    for (const value of [x, y, privateJwk.d, edwards.x, '???', '4711', 'c2VjcmV0']) expect(said).not.toContain(value);
  });

  it.each<[string, unknown]>([
    ['a list instead of a JWK set', [publicJwk]],
    ['a key instead of a JWK set', publicJwk],
    ['a JWK set as text', JSON.stringify({ keys: [publicJwk] })],
    ['null', null],
    ['a JWK set without keys', { keys: [] }],
    ['a JWK set whose keys are one key', { keys: publicJwk }],
  ])('%s is refused, naming "managers[0].keys" and no value of it', (_, keys) => {
    const said = saidAtStart({ keys });
    expect(said).toContain('"managers[0].keys"');
    expect(said).not.toContain(x);
  });

  it('are judged by their form where there is no Node', async () => {
    const builtin = vi.spyOn(process, 'getBuiltinModule').mockReturnValue(undefined);
    vi.resetModules();
    const { checkSealKeys } = await import('../src/seal-keys.js');
    builtin.mockRestore();
    const check = (key: object) => () => checkSealKeys({ keys: [key] }, 'managers[0].keys');
    expect(check(publicJwk)).not.toThrow();
    expect(check({ ...publicJwk, x: stranger.x })).not.toThrow(); // a point of no curve is found by Node alone
    expect(check({ ...publicJwk, x: '???' })).toThrow('"managers[0].keys.keys[0]" has no usable "x"');
    expect(check(privateJwk)).toThrow('is a private key');
  });

  it('of whatever form come to a start or to a TypeError that names them', () => {
    const value = fc.oneof(fc.constant(x), fc.constant(y), fc.jsonValue());
    const key = fc.record({ kty: fc.constantFrom('EC', 'OKP'), crv: fc.constantFrom('P-256', 'Ed25519'), x: value, y: value });
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), fc.record({ keys: fc.oneof(fc.jsonValue(), fc.array(key)) })), (keys) => {
        expect(saidAtStart({ keys }) ?? '"managers[0].keys').toMatch(/^"managers\[0\]\.keys/);
      }),
    );
  });
});

describe('an entry in managers, at start', () => {
  it.each<[string, object, string]>([
    ['trustDomain', { trustDomain: undefined }, 'is missing'],
    ['trustDomain', { trustDomain: '' }, 'is empty'],
    ['trustDomain', { trustDomain: ['clinic'] }, 'no text'],
    ['clientId', { clientId: undefined }, 'is missing'],
    ['fhirServers', { fhirServers: undefined }, 'at least one'],
    ['tokenIssuers', { tokenIssuers: undefined }, 'at least one'],
  ])('without a usable %s is refused, naming it (%j)', (member, change, why) => {
    const said = saidAtStart(change);
    expect(said).toContain(`"managers[0].${member}"`);
    expect(said).toContain(why);
    expect(said).not.toContain('clinic');
  });
});
