import { type Agent, createAgent, openSession, type Session, type SwitchReport } from '@hmcp/agent';
import { type Grant, type SmartClient, smartClient } from '@hmcp/auth';
import { type AuditSink, definePatientTool } from '@hmcp/core';
import * as z from 'zod';
import type { Screen } from '../orchestrator/orchestrator.js';

/** A tool of the laboratory system, written down by its caller: a plain server has to be told whom it is about. */
export const getLabs = definePatientTool({
  name: 'get-labs',
  description: 'Laboratory results of a patient',
  scope: 'patient/Observation.rs',
  input: z.object({ patientId: z.string() }),
  output: z.object({ results: z.array(z.looseObject({ resourceType: z.literal('Observation'), id: z.string() })) }),
});

/** What an app is told of the place it runs in. */
export interface Place {
  readonly fhirServer: string;
  readonly clientId: string;
  readonly redirectUri: string;
  readonly labsUrl: string;
  readonly problemsUrl: string;
  readonly audit: AuditSink;
  readonly pseudonymKey: string;
}

/** An app at the EHR, and the agent it calls others by. */
export interface App {
  readonly smart: SmartClient;
  readonly agent: Agent;
}

/** Nothing but the EHR's own address and the name it knows the app by. */
export function visitSummary({ fhirServer, clientId, redirectUri, labsUrl, problemsUrl, audit, pseudonymKey }: Place): App {
  const smart = smartClient({ fhirServer, clientId, redirectUri }); // any SMART server; a public app has no key
  const agent = createAgent({
    name: 'visit-summary',
    clientId,
    peers: [
      { name: 'labs', resource: labsUrl, kind: 'plain' }, // gets no token and no context; what it answers is checked here
      { name: 'problems', resource: problemsUrl, kind: 'hmcp' }, // wants a token of its own: this EHR exchanges none, so 40302
    ],
    audit,
    pseudonymKey,
  });
  return { smart, agent };
}

/** One launch: the EHR signs the person in, and lets them pick. */
export const launch = ({ smart }: App, { open }: Pick<Screen, 'open'>): Promise<Grant> =>
  smart.authorize({ launch: 'patient', scope: 'openid patient/Patient.r patient/Observation.rs', open });

/** One session on its patient. */
export async function openPatient(app: App, screen: Screen): Promise<{ readonly grant: Grant; readonly session: Session }> {
  const grant = await launch(app, screen); // one token, one patient
  const session = await openSession({ agent: app.agent, grant }); // session.assurance: 'process'
  return { grant, session };
}

/** A read of the EHR's own API, with the token the EHR gave for it. It goes nowhere else. */
export function readPatient({ fhirServer, accessToken }: Grant, id: string): Promise<Response> {
  return fetch(`${fhirServer}/Patient/${id}`, { headers: { authorization: `Bearer ${accessToken}` }, redirect: 'error' });
}

/** One question. @param named whom the caller, or a model, believes to be open */
export async function look(session: Session, screen: Screen, named: string): Promise<void> {
  const { results } = await session.call('labs', getLabs, { patientId: named }); // anybody else's results are dropped: 40903
  screen.show(results);
}

/** The next patient: a new launch at the EHR, the person's confirmation, one commit in this process. */
export function nextPatient(app: App, session: Session, screen: Screen): Promise<SwitchReport> {
  return session.switchPatient({ authorize: () => launch(app, screen), confirm: screen.showDialog });
}
