import {
  type Agent,
  explainSwitch,
  openSession,
  type Session,
  type SwitchAnswer,
  type SwitchDialog,
  type SwitchReport,
} from '@hmcp/agent';
import type { SmartClient } from '@hmcp/auth';
import { listResults } from '@hmcp/clinic';

/** Laboratory results of one patient; the right to go to the next one, and to take part in a session, where a manager holds it. */
const scope = 'launch/patient openid patient/Patient.r patient/Observation.rs hmcp:context.switch hmcp:context.participate';

/** Where the person sits. */
export interface Screen {
  /** Takes the person to the sign-in page. @returns the URL they come back with */
  readonly open: (url: string) => Promise<string>;
  /** Puts a dialog to the person. */
  readonly showDialog: (dialog: SwitchDialog) => Promise<SwitchAnswer>;
  readonly show: (results: readonly unknown[]) => void;
  readonly tell: (sentence: string) => void;
}

/** What an orchestrator runs on. */
export interface Desk {
  readonly smart: SmartClient;
  readonly portal: Agent;
  readonly screen: Screen;
  /** Resource identifier of a context manager. Absent: the session lives in this process alone. */
  readonly manager?: string | undefined;
  /** Client identifiers of agents that may join the session, with a manager. */
  readonly participants?: readonly string[] | undefined;
}

/** One launch, one session. */
export async function openPatient({ smart, portal, screen, manager, participants }: Desk): Promise<Session> {
  const grant = await smart.authorize({ launch: 'patient', scope, open: screen.open }); // one token, one patient
  return openSession({ agent: portal, grant, manager, participants }); // `manager` may be left out
}

/** One question about whoever is open. */
export async function look({ screen }: Pick<Desk, 'screen'>, session: Session): Promise<void> {
  const { results } = await session.call('labs', listResults, { category: 'laboratory' });
  screen.show(results); // session.assurance: 'process' without a manager, 'manager' with one
}

/** The next patient: a new grant, the person's confirmation, one commit. */
export async function nextPatient({ smart, screen }: Desk, session: Session): Promise<SwitchReport> {
  const outcome = await session.switchPatient({
    authorize: () => smart.authorize({ launch: 'patient', scope, open: screen.open }), // a new grant, for the next patient
    confirm: screen.showDialog, // reaches a person; a model cannot answer it
  });
  if (outcome.result !== 'committed') screen.tell(explainSwitch(outcome)); // what happened, and why, in a sentence
  return outcome;
}

/** One act of the person that takes its time. @param work what is done between two looks; gets the signal of the act */
export function compare(session: Session, work: (signal: AbortSignal) => Promise<void>): Promise<number> {
  // One intent and one epoch, however many calls. A switch meanwhile settles the act with 40901; what it still calls is refused.
  return session.act(async (signal) => {
    const before = await session.call('labs', listResults, { category: 'laboratory' });
    await work(signal);
    const after = await session.call('labs', listResults, { category: 'laboratory' });
    return after.results.length - before.results.length;
  });
}
