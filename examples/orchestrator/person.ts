import type { SwitchAnswer, SwitchDialog } from '@hmcp/agent';
import { signIn } from '@hmcp/authorization-server';
import type { WorldFacts } from '@hmcp/cli/world';
import type { PatientSummary } from '@hmcp/clinic';
import type { Screen } from './orchestrator.js';

/** Stands for the person at the screen: picks who comes next, and answers dialogs from the record of whom they picked. */
export class Person implements Screen {
  readonly #account: WorldFacts['accounts'][number];
  /** Whom the person picks at the next sign-in. */
  picks: PatientSummary;
  /** False: closes every dialog. */
  willing = true;
  /** Dialogs shown, counted. */
  dialogs = 0;
  /** Everything shown so far, one list of results after the other. */
  readonly shown: (readonly unknown[])[] = [];

  constructor(account: WorldFacts['accounts'][number], picks: PatientSummary) {
    this.#account = account;
    this.picks = picks;
  }

  readonly open = (url: string): Promise<string> => {
    const { username, password } = this.#account;
    const { name, birthDate } = this.picks;
    return signIn({ url, username, password, patient: { name, birthDate } });
  };

  readonly showDialog = async ({ fields }: SwitchDialog): Promise<SwitchAnswer> => {
    this.dialogs += 1;
    if (!this.willing) return 'decline';
    const { birthDate, identifierLast4 } = this.picks;
    const known: Record<string, string | boolean> = { confirm: true, birthDate, recordNumberLast4: identifierLast4 };
    return Object.fromEntries(fields.map(({ name }) => [name, known[name] ?? '']));
  };

  readonly show = (results: readonly unknown[]): void => {
    this.shown.push(results);
    process.stdout.write(`served: ${results.length} results\n`);
  };

  readonly tell = (sentence: string): void => {
    process.stdout.write(`${sentence}\n`);
  };
}
