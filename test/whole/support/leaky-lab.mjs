// A party with a planted leak: it logs the name of a patient.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

const { data } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { entry } = JSON.parse(readFileSync(join(data, 'person-1.json'), 'utf8'));
const [{ given }] = entry.find(({ resource }) => resource.resourceType === 'Patient').resource.name;
process.stderr.write(`${JSON.stringify({ level: 40, name: 'leaky-lab', msg: `opened the chart of ${given[0]}` })}\n`);
const server = createServer((_, response) => response.end()).listen(0, '127.0.0.1', () => {
  process.send({ type: 'listening', port: server.address().port });
});
for (const end of ['SIGTERM', 'disconnect']) process.once(end, () => process.exit(0));
