import { keyedHash, patientKey } from '@hmcp/core';
import { describe, expect, it } from 'vitest';
import type { Inbound } from '../src/admission.js';
import { describe as describeRequest } from '../src/audit.js';
import { ANN, BO, FHIR, world } from './support/world.js';

async function inbound(w: ReturnType<typeof world>, more = {}): Promise<Inbound> {
  const accessToken = w.issuer.issue(undefined, { fhirUser: 'https://ehr.example/r4/Patient/p-1', ...more });
  const token = await w.env.verifier.verify(accessToken);
  return { token, accessToken, method: 'tools/call', params: {}, operation: undefined };
}
const of = (patient: string) => ({ fhirServer: FHIR, patient });

describe('the people of a record', () => {
  it('are written by the key of the deployment, however often its token comes', async () => {
    const w = world();
    const asked = await inbound(w);
    const [first, second] = [await describeRequest(asked, w.env, of(ANN)), await describeRequest(asked, w.env, of(ANN))];
    expect(second).toEqual(first);
    expect(first).toMatchObject({
      subject: await keyedHash(w.env.pseudonymKey, asked.token.subject),
      fhirUser: await keyedHash(w.env.pseudonymKey, 'https://ehr.example/r4/Patient/p-1'),
      pk: await patientKey(w.env.pseudonymKey, of(ANN)),
      pkScope: 'local',
    });
  });

  it.each([
    ['another patient', of(BO)],
    ['an equal id on another server', { ...of(ANN), fhirServer: 'https://other.example/r4' }],
    ['an equal id in a tenant', { ...of(ANN), tenant: 't1' }],
  ])('are not those of the request before with the same token: %s', async (_, other) => {
    const w = world();
    const asked = await inbound(w);
    await describeRequest(asked, w.env, of(ANN));
    const { pk } = await describeRequest(asked, w.env, other);
    expect(pk).toBe(await patientKey(w.env.pseudonymKey, other));
    expect((await describeRequest(asked, w.env, of(ANN))).pk).toBe(await patientKey(w.env.pseudonymKey, of(ANN)));
  });

  it('are not those of another deployment in the same process', async () => {
    const w = world();
    const asked = await inbound(w);
    const other = { ...w.env, pseudonymKey: 'another key of the tests' };
    const [here, there] = [await describeRequest(asked, w.env, of(ANN)), await describeRequest(asked, other, of(ANN))];
    expect([here.subject === there.subject, here.pk === there.pk, here.fhirUser === there.fhirUser]).toEqual([
      false,
      false,
      false,
    ]);
  });
});
