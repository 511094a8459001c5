import { parseArgs } from 'node:util';
import { Teller } from './teller.js';

const HELP = `npm start [-- --data DIR] [--json] [--keep]

Plays one story on real processes: a patient's context travels a chain of agents and is checked at each hop.

  --data DIR   a folder of FHIR R4 Bundles (default: HMCP_DATA, else the people this project ships)
  --json       JSON lines only; no values, names or patient ids
  --keep       leave the clinic running after the story, and print its addresses and accounts

Exit codes: 0 every expectation held · 1 one did not · 2 the records do not hold two usable charts · 64 the command line is not
            understood · 130 stopped
`;

const values = readArguments();

// A reader that has seen enough (`npm start | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

if (values === undefined) {
  process.stderr.write('npm start: an argument is not understood; try npm start -- --help\n');
  process.exitCode = 64;
} else if (values.help) {
  process.stdout.write(HELP);
} else {
  const teller = new Teller({ json: values.json });
  teller.block(['HMCP: whose record is this? One patient, a chain of agents, a check at every hop.']);
  // The first line stands before the rest of the program is loaded.
  const { play } = await import('./play.js');
  const data = values.data ?? (process.env.HMCP_DATA || undefined);
  process.exitCode = await play({ teller, data, keep: values.keep });
}

function readArguments() {
  try {
    return parseArgs({
      options: {
        data: { type: 'string' },
        json: { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values;
  } catch {
    return undefined;
  }
}
