import { readFile } from 'node:fs/promises';
import { type Grant, SmartError, smartClient } from '@hmcp/auth';
import { createScriptedBrowser, type ScriptedBrowser, signIn } from '@hmcp/authorization-server';
import type { PatientSummary } from '@hmcp/clinic';
import { decodeJwt, type JWK } from 'jose';
import type { Stage } from './stage.js';

/** What the launches of scene 1 leave for the others: the portal's visit, and grants of the developer's own client. */
export interface Launched {
  /** The person's visit at the portal: the cookie, and what names its pages in their forms. */
  readonly visit: { readonly cookie: string; readonly page: string };
  /** A grant on A of the development client, for requests written by hand. */
  readonly grant: Grant;
  readonly clientKey: JWK & { kid: string; alg: string };
  launchFor(patient: PatientSummary): Promise<Grant>;
}

/** Scene 1: the person launches once and picks A; the token pins A; an account with no right to A is refused. */
export async function launch(stage: Stage): Promise<Launched> {
  const { teller, expectations, facts, a } = stage;
  teller.scene(1, 'A clinician with many patients signs in once, at the portal, and picks A.');
  const [clinician, nurse] = facts.accounts;
  if (clinician === undefined || nurse === undefined) throw new TypeError('the world has two accounts');

  const visit = await visitPortal(stage, clinician);
  teller.verdict(0, `portal  ${clinician.name} picked a patient`, 'signed in', 'served');
  teller.event({ type: 'launch', agent: 'portal', verdict: 'served' });

  const { clientId, redirectUri, scope, keyFile } = facts.client;
  const [clientKey] = (JSON.parse(await readFile(keyFile, 'utf8')) as { keys: Launched['clientKey'][] }).keys;
  if (clientKey === undefined) throw new TypeError('the key file of the development client is empty');
  const smart = smartClient({ fhirServer: facts.fhirServer, clientId, redirectUri, privateKey: clientKey });
  const authorize = (account: typeof clinician, patient: PatientSummary, browser?: ScriptedBrowser): Promise<Grant> =>
    smart.authorize({
      launch: 'patient',
      scope,
      open: (url) => signIn({ url, username: account.username, password: account.password, patient: choice(patient), browser }),
    });

  const grant = await authorize(clinician, a);
  const claims = decodeJwt(grant.accessToken);
  expectations.equal('the token response names the picked patient', grant.patient === a.id, true);
  expectations.equal('the token itself carries the same patient', claims.patient === a.id, true);
  expectations.equal('the token is for the FHIR base', claims.aud, facts.fhirServer);
  teller.verdict(0, 'authorization-server  token and token response', 'both name A', 'served');
  teller.event({ type: 'launch', agent: 'authorization-server', verdict: 'served' });

  // Somebody who may not see A, and who forges the form because the list does not offer A.
  const browser = createScriptedBrowser();
  const forging: ScriptedBrowser = {
    open: (url, stopAt) => browser.open(url, stopAt),
    submit: (url, fields, stopAt) =>
      browser.submit(
        url,
        [...fields].map(([name, value]): [string, string] => [name, name === 'patient' ? a.id : value]),
        stopAt,
      ),
  };
  const refused = await smart
    .authorize({
      launch: 'patient',
      scope,
      open: (url) => signIn({ url, username: nurse.username, password: nurse.password, patient: 0, browser: forging }),
    })
    .then(
      () => 'granted',
      (error: unknown) => (error instanceof SmartError ? error.code : 'failed'),
    );
  expectations.equal('an account with no right to A is refused', refused, 'access_denied');
  expectations.refusals += 1;
  teller.verdict(0, `authorization-server  ${nurse.name}, who has no right to A, asks for A`, `refused ${refused}`, 'refused');
  teller.event({ type: 'refused', agent: 'authorization-server', code: 403, check: 'token' });
  return { visit, grant, clientKey, launchFor: (patient) => authorize(clinician, patient) };
}

function choice({ name, birthDate }: PatientSummary): { name: string; birthDate: string } {
  return { name, birthDate };
}

/** The person's browser at the portal: launch, sign in, pick A, and come back. */
async function visitPortal(
  { facts, a, expectations }: Stage,
  account: { username: string; password: string },
): Promise<Launched['visit']> {
  const begun = await fetch(`${facts.portal}/launch`, { redirect: 'manual' });
  const url = begun.headers.get('location') ?? '';
  const callback = await signIn({ url, username: account.username, password: account.password, patient: choice(a) });
  const back = await fetch(callback, { redirect: 'manual', headers: { cookie: cookieOf(begun) } });
  expectations.equal('the portal accepts the callback', back.status, 303);
  const cookie = cookieOf(back);
  const chart = await fetch(`${facts.portal}/`, { headers: { cookie } });
  const page = /name="page" value="([^"]+)"/.exec(await chart.text())?.[1] ?? '';
  return { cookie, page };
}

/** What a browser sends back of the cookies it was given; an empty one is one taken away. */
function cookieOf(response: Response): string {
  const pairs = response.headers.getSetCookie().map((line) => line.split(';')[0] ?? '');
  return pairs.filter((pair) => !pair.endsWith('=')).join('; ');
}
