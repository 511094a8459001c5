import { createSealSigner } from '@hmcp/auth';
import { decodeProtectedHeader, exportJWK, generateKeyPair } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FHIR, LABS, MANAGER, startWorld, TRIAGE, type World } from './world.js';

let world: World;
let launched: string;
beforeAll(async () => {
  world = await startWorld();
  const scope = 'launch/patient openid patient/hmcp:read patient/*.rs hmcp:context.switch hmcp:context.participate';
  launched = (await world.launch({ patient: 0, parameters: { scope } })).accessToken;
});
afterAll(() => world.close());

const sealed = (seal: string, subject = launched) =>
  world.exchange('portal', subject, TRIAGE, 'patient/Observation.rs', [['hmcp_seal', seal]]);

describe('an exchange with a seal', () => {
  it('gives the token the session, which every later exchange keeps with and without a seal', async () => {
    const seal = await world.seal();
    const first = await sealed(seal);
    expect(first).toMatchObject({ status: 200, claims: { patient: 'ann', __hmcp: { sid: 'ctx_1', chain: [] } } });
    expect(world.records.at(-1)).toMatchObject({ event: 'token.issued', sid: 'ctx_1' });
    const next = (more: [string, string][]) => world.exchange('triage', first.accessToken, LABS, 'patient/Observation.rs', more);
    expect((await next([['hmcp_seal', seal]])).claims).toMatchObject({ __hmcp: { sid: 'ctx_1' }, act: { sub: 'triage' } });
    expect((await next([])).claims).toMatchObject({ __hmcp: { sid: 'ctx_1' } });
  });

  it('lets the portal reach the manager with its switch scope', async () => {
    const answer = await world.exchange('portal', launched, MANAGER, 'hmcp:context.switch patient/Patient.r');
    expect(answer.claims).toMatchObject({ aud: MANAGER, scope: 'hmcp:context.switch patient/Patient.r', patient: 'ann' });
  });

  it('takes a seal of the patient a person with user scopes may open, and of no other', async () => {
    const scope = 'openid user/*.rs';
    const clin = (await world.launch({ parameters: { scope } })).accessToken;
    const one = (await world.launch({ parameters: { scope }, username: 'one' })).accessToken;
    const of = async (token: string, seal: string) =>
      world.exchange('portal', token, TRIAGE, 'user/Observation.rs', [['hmcp_seal', seal]]);
    expect((await of(clin, await world.seal({ patient: 'bo' }))).claims).toMatchObject({ __hmcp: { sid: 'ctx_1' } });
    expect((await of(one, await world.seal({ sub: 'one', patient: 'ann' }))).status).toBe(200);
    expect((await of(one, await world.seal({ sub: 'one', patient: 'bo' }))).body.error).toBe('invalid_grant');
  });

  it.each<[string, () => Promise<string>]>([
    ['of another patient', () => world.seal({ patient: 'bo' })],
    ['of another person', () => world.seal({ sub: 'one' })],
    ['of another client', () => world.seal({ azp: 'browser-app' })],
    ['of another FHIR server', () => world.seal({ fhirServer: 'http://127.0.0.1:9900/fhir' })],
    ['that has expired', () => world.seal({}, Date.now() - 33_000)],
    ['of a later time', () => world.seal({}, Date.now() + 60_000)],
    ['changed after signing', async () => tampered(await world.seal())],
    ['that is an access token', async () => launched],
    ['of an unlisted manager', () => strangers('http://127.0.0.1:9900/mcp')],
    ['signed by a stranger in the name of the manager', () => strangers(MANAGER)],
  ])('refuses a seal %s', async (_name, make) => {
    const answer = await sealed(await make());
    expect(answer).toMatchObject({ status: 400, body: { error: 'invalid_grant' } });
    expect(world.records.at(-1)).toMatchObject({ event: 'token.refused', check: 'token' });
    expect(JSON.stringify([answer.body, world.records.at(-1)])).not.toMatch(/"ann"|"bo"/);
  });

  it('refuses a seal of another session than the token has', async () => {
    const { accessToken } = await sealed(await world.seal());
    const other: [string, string][] = [['hmcp_seal', await world.seal({ sid: 'ctx_2' })]];
    expect((await world.exchange('triage', accessToken, LABS, 'patient/Observation.rs', other)).body.error).toBe('invalid_grant');
  });

  it.each([
    ['two seals', true],
    ['text that is no seal', false],
  ])('refuses %s as malformed', async (_name, twice) => {
    const seal = await world.seal();
    const fields: [string, string][] = twice
      ? [
          ['hmcp_seal', seal],
          ['hmcp_seal', seal],
        ]
      : [['hmcp_seal', 'ann']];
    const answer = await world.exchange('portal', launched, TRIAGE, 'patient/Observation.rs', fields);
    expect(answer).toMatchObject({ status: 400, body: { error: 'invalid_request' } });
  });

  it('never takes a seal for a token', async () => {
    const seal = await world.seal();
    expect(decodeProtectedHeader(seal).typ).toBe('hmcp-context+jwt');
    expect((await world.exchange('portal', seal, TRIAGE, 'patient/Observation.rs')).body.error).toBe('invalid_grant');
  });

  it('refuses every seal where no manager is trusted, and asks again later where its keys cannot be had', async () => {
    const managerOf = (config: Parameters<NonNullable<Parameters<typeof startWorld>[0]>>[0]) => config.managers?.[0];
    const alone = await startWorld(({ managers: _, ...config }) => config);
    const unreachable = await startWorld((config) => {
      const { keys: _, ...manager } = managerOf(config) ?? {
        issuer: '',
        resource: '',
        clientId: '',
        trustDomain: '',
        fhirServers: [],
        tokenIssuers: [],
      };
      return { ...config, managers: [{ ...manager, jwksUri: 'http://127.0.0.1:9/jwks' }] };
    });
    try {
      const ask = async (w: World) => {
        const { accessToken } = await w.launch({ patient: 0 });
        return w.exchange('portal', accessToken, TRIAGE, 'patient/Observation.rs', [['hmcp_seal', await w.seal()]]);
      };
      expect(await ask(alone)).toMatchObject({ status: 400, body: { error: 'invalid_grant' } });
      expect(await ask(unreachable)).toMatchObject({ status: 503, body: { error: 'temporarily_unavailable' } });
    } finally {
      await Promise.all([alone.close(), unreachable.close()]);
    }
  });
});

function tampered(seal: string): string {
  const [header, payload = '', signature] = seal.split('.');
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString());
  return `${header}.${Buffer.from(JSON.stringify({ ...claims, patient: 'ann', epoch: 9 })).toString('base64url')}.${signature}`;
}

async function strangers(issuer: string): Promise<string> {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true });
  const signer = await createSealSigner({
    issuer,
    trustDomain: 'ward',
    key: { ...(await exportJWK(privateKey)), kid: 'seal-key' },
  });
  const person = { sub_iss: world.issuer, sub: 'clin', azp: 'portal' };
  return signer.sign({ ...person, sid: 'ctx_1', epoch: 0, patient: 'ann', fhirServer: FHIR, pk: 'k'.repeat(43) });
}
