import { readFile } from 'node:fs/promises';
import { createTokenExchanger } from '@hmcp/auth';
import { importJWK, type JWK, SignJWT } from 'jose';
import { type RawAnswer, rawCall } from './raw-call.js';
import { askPortal } from './scene-chain.js';
import type { Launched } from './scene-launch.js';
import { type Stage, urlOf } from './stage.js';

/** Scene 3: everything that must not work, refused by its own code, with nothing leaked. */
export async function refusals(stage: Stage, launched: Launched): Promise<void> {
  const { teller, facts, a, b } = stage;
  const labs = urlOf(stage, 'labs');
  const medications = urlOf(stage, 'medications');
  teller.scene(3, 'Refused, each by its own code, and nothing of anybody in the refusal.');
  const tokens = createTokenExchanger({
    issuer: facts.issuer,
    client: { clientId: facts.client.clientId, privateKey: launched.clientKey },
  });
  const tokenFor = async (resource: string, grant = launched.grant): Promise<string> =>
    (
      await tokens.exchange({
        subjectToken: grant.accessToken,
        resource,
        scope: resource === medications ? 'patient/MedicationRequest.rs' : 'patient/Observation.rs',
      })
    ).accessToken;
  const ofA = await tokenFor(labs);
  const ofB = await tokenFor(labs, await launched.launchFor(b));
  const call = { url: labs, tool: 'list-results' };
  const envelopeOfA = { version: '1', patient: a.id, intent: { id: crypto.randomUUID() } };

  await refuse(stage, 'an argument names the other patient', await rawCall({ ...call, token: ofA, args: { patientId: b.id } }), {
    code: 40903,
    check: 'argument',
  });
  await refuse(
    stage,
    'the header X-HMCP-Patient names the other patient',
    await rawCall({ ...call, token: ofA, headers: { 'X-HMCP-Patient': b.id } }),
    { code: 40903, check: 'header' },
  );
  await refuse(
    stage,
    'an envelope of A with a token of the other patient',
    await rawCall({ ...call, token: ofB, envelope: envelopeOfA }),
    { code: 40903, check: 'equality' },
  );
  await refuse(
    stage,
    'a token with patient/ scopes and no patient',
    await rawCall({ ...call, token: await withoutPatient(stage, labs) }),
    { status: 401, check: 'token' },
  );
  await refuse(stage, 'a token made for the medications agent', await rawCall({ ...call, token: await tokenFor(medications) }), {
    status: 401,
    check: 'token',
  });
  const nightLab = urlOf(stage, 'night-lab');
  await refuse(
    stage,
    'a tool that nobody declared',
    await rawCall({ url: nightLab, tool: 'rebuild-index', token: await tokenFor(nightLab) }),
    { code: 40303, check: 'operation' },
  );

  await dropped(stage, launched);
  await withheld(stage, launched);
}

interface Expected {
  readonly code?: number;
  readonly status?: number;
  readonly check: string;
}

async function refuse(
  { teller, expectations, counter, a, trail }: Stage,
  what: string,
  answer: RawAnswer,
  expected: Expected,
): Promise<void> {
  const [hop] = await trail.next();
  teller.say(`${what[0]?.toUpperCase()}${what.slice(1)}:`);
  if (hop) expectations.tell([hop]);
  expectations.equal(`${what}: the status`, answer.status, expected.status ?? 200, hop);
  expectations.equal(`${what}: the code`, answer.error?.code, expected.code, hop);
  if (expected.code !== undefined)
    expectations.equal(`${what}: the check in the answer`, answer.error?.data?.check, expected.check, hop);
  expectations.equal(`${what}: the check in the audit`, hop?.check, expected.check, hop);
  expectations.truthy(`${what}: nobody is named in the refusal`, !counter.holds(answer.text) && !answer.text.includes(a.id));
}

/** A laboratory outside that lies: its binding is well-formed and names A, its Observation is somebody else's. */
async function dropped(stage: Stage, launched: Launched): Promise<void> {
  const { teller, expectations, counter, trail } = stage;
  teller.say(
    "A faulty laboratory wraps the other patient's Observation in a perfect binding for A; its caller, triage, drops the answer:",
  );
  const { status, body, text } = await askPortal(stage, launched, { reason: 'What stands out?', laboratory: 'reference-lab' });
  const hops = await trail.next();
  expectations.tell(hops);
  const drop = hops.find(({ event }) => event === 'hop.dropped');
  const { error } = body as { error?: { code?: number; by?: string; check?: string } };
  expectations.equal(
    'the dropped answer: the portal is refused',
    [status, error?.code, error?.check, error?.by],
    [409, 40903, 'result', urlOf(stage, 'triage')],
    drop,
  );
  expectations.truthy('the dropped answer is in the audit of triage', drop?.party === 'triage');
  expectations.truthy(
    'the dropped answer: nothing of the other patient reached the portal',
    !counter.holds(text) && counter.bytes('triage') === 0,
  );
}

/** A laboratory of ours with a bug in its handler: its own boundary withholds the rows, two hops from the portal. */
async function withheld(stage: Stage, launched: Launched): Promise<void> {
  const { teller, expectations, counter, trail } = stage;
  teller.say(
    "A laboratory on this server, whose handler has a bug and reads the other patient's rows from the files, withholds them itself; the refusal comes back two hops with its code and its author:",
  );
  const { status, body, text } = await askPortal(stage, launched, { reason: 'What stands out?', laboratory: 'night-lab' });
  const hops = await trail.next();
  expectations.tell(hops);
  const own = hops.find(({ event }) => event === 'result.withheld');
  const { error } = body as { error?: { code?: number; by?: string; check?: string; hop?: number } };
  expectations.equal('the withheld result: at its own boundary', own?.party, 'night-lab', own);
  expectations.equal(
    'the withheld result: code, check, author and hop reach the portal',
    [status, error?.code, error?.check, error?.by, error?.hop],
    [409, 40903, 'result', urlOf(stage, 'night-lab'), 2],
    own,
  );
  expectations.truthy(
    'the withheld result: no byte of the other patient left',
    counter.bytes('night-lab') === 0 && !counter.holds(text),
  );
}

/** A token no authorization server would mint: signed here with the development key. */
async function withoutPatient({ facts }: Stage, audience: string): Promise<string> {
  const { keys } = JSON.parse(await readFile(facts.signingKeys, 'utf8')) as { keys: JWK[] };
  const key = keys.find(({ alg }) => alg === 'ES256');
  if (key === undefined) throw new TypeError('the development keys hold no ES256 key');
  const now = Math.floor(Date.now() / 1000);
  return new SignJWT({ scope: 'patient/Observation.rs', client_id: facts.client.clientId, __hmcp: { v: 1, chain: [] } })
    .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', ...(key.kid === undefined ? {} : { kid: key.kid }) })
    .setIssuer(facts.issuer)
    .setSubject('dr-okafor')
    .setAudience(audience)
    .setIssuedAt(now)
    .setExpirationTime(now + 60)
    .setJti(crypto.randomUUID())
    .sign(await importJWK(key, 'ES256'));
}
