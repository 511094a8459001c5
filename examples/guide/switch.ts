import { createInterface } from 'node:readline';
import { explainSwitch, openSession, type SwitchAnswer, type SwitchDialog } from '@hmcp/agent';
import { getLabs, writeNote } from './contracts.js';
import { deskOf, manager, openBrowser, peer, smart } from './desk.js';

const typed = createInterface({ input: process.stdin })[Symbol.asyncIterator](); // what the person types, line by line
const scope =
  'launch/patient patient/Patient.r patient/Observation.rs patient/hmcp:write hmcp:context.switch hmcp:context.participate';
const launch = (patient: number) => smart.authorize({ launch: 'patient', scope, open: (url) => openBrowser(url, patient) });

await using desk = deskOf(peer('old-labs'), peer('notes')); // all it may call about a patient
// `manager` makes it a session that others know of; without it, it lives in this process.
const session = await openSession({ agent: desk, grant: await launch(0), manager, participants: ['notes'] });
await show();
await session.call('notes', writeNote, { text: 'potassium: repeat on Monday' }); // an effect, not yet saved

const outcome = await session.switchPatient({ authorize: () => launch(1), confirm: askThePerson });
console.log(explainSwitch(outcome)); // `outcome` itself is for programs
if (outcome.result !== 'committed') process.exitCode = 1;
await show();

await session.close();
process.stdin.destroy(); // nothing more is asked

async function show(): Promise<void> {
  const { results } = await session.call('old-labs', getLabs, { test: 'Potassium' });
  console.log(`epoch ${session.epoch}: potassium ${results.map(({ value }) => value)}`);
}

/** Reaches the person, who reads the chart of the next patient; a model never sees it. */
async function askThePerson({ message, fields }: SwitchDialog): Promise<SwitchAnswer> {
  console.log(message);
  const answer: Record<string, string | boolean> = {};
  for (const { name, title, kind } of fields) {
    process.stdout.write(`${title}: `);
    const { value, done } = await typed.next();
    if (done) {
      console.log('\nStandard input has ended, and nobody can answer: that is a no.');
      return 'decline';
    }
    answer[name] = kind === 'yes-no' ? value === 'yes' : value;
  }
  return answer;
}
