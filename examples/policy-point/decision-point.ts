// A policy decision point as its own process: who looks after whom, asked by HTTP. It knows nothing of this project. Its parent
// can put it into a bad mood, which is what the example is about.
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chooseCharts, recordsOf } from '@hmcp/clinic';

const { a } = chooseCharts(await recordsOf(undefined));
const careTeams = new Map([[a.patient.id, ['dr-okafor']]]);

const answers: Readonly<Record<string, (response: ServerResponse, decision: boolean) => void>> = {
  well: (response, decision) => response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ decision })),
  slow: () => undefined, // says nothing, for as long as it is asked
  gone: (response) => response.destroy(), // whoever stands in front of it says 502
  failing: (response) => response.writeHead(500).end('{"decision":true}'),
  garbage: (response) => response.writeHead(200).end('<html>permit</html>'),
  ambiguous: (response) => response.writeHead(200).end('{"decision":false,"decision":true}'),
};
let mood = 'well';
process.on('message', (message: { type?: unknown }) => {
  if (typeof message.type !== 'string' || !Object.hasOwn(answers, message.type)) return;
  mood = message.type;
  process.send?.({ type: 'changed' });
});

const http = createServer(async (request, response) => {
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) text += chunk;
  const { subject, resource } = JSON.parse(text);
  answers[mood]?.(response, careTeams.get(resource.id)?.includes(subject.id) === true);
});
process.once('SIGTERM', () => process.exit(0));
process.once('disconnect', () => process.exit(0));
http.listen(0, '127.0.0.1', () => process.send?.({ type: 'listening', port: (http.address() as AddressInfo).port }));
