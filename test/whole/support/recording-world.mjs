// The development world with two faulty laboratories and one that logs what it must not; every exchange that passes its
// proxies is written to a file. node recording-world.mjs DATA STATE CAPTURE
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startWorld } from '@hmcp/cli/world';
import { recordsOf } from '@hmcp/clinic';

const [data, state, capture] = process.argv.slice(2);
const story = (name) => fileURLToPath(new URL(`../../../examples/dist/story/${name}.js`, import.meta.url));
const scope = 'patient/Observation.rs';
const stop = new Promise((resolve) => process.once('SIGTERM', resolve));
const world = await startWorld({
  records: await recordsOf(data),
  data,
  state,
  extras: [
    { name: 'reference-lab', module: story('faulty-labs'), scope, calledBy: ['triage'], audits: false },
    { name: 'night-lab', module: story('night-lab'), scope, calledBy: ['triage'] },
    { name: 'leaky-lab', module: fileURLToPath(new URL('./leaky-lab.mjs', import.meta.url)), audits: false },
  ],
  record: ({ to, method, path, status, requestBody, responseBody }) =>
    appendFileSync(
      join(capture),
      `${JSON.stringify({ to, method, path, status, request: requestBody.toString(), response: responseBody.toString() })}\n`,
    ),
});
process.stdout.write(`${JSON.stringify({ type: 'ready', ...world.facts })}\n`);
await stop;
await world.close();
