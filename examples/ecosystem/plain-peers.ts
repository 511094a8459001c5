import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openSession, type Peer } from '@hmcp/agent';
import { definePatientTool, META } from '@hmcp/core';
import { idsOf } from '@hmcp/examples/dist/checks.js';
import { playInWorld } from '@hmcp/examples/dist/world-run.js';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import * as z from 'zod';
import { EVERYTHING, leaksIn, type Sent, serveEverything } from './wire.js';

// Two servers of the registry that know nothing of patient context, called from a session: `fhir-mcp-server`, in front of the FHIR
// API of a development world, and `@modelcontextprotocol/server-everything`. Fails unless nothing of the context reaches them, what
// they answer about somebody else is dropped, and the log says who was told what.

const tap = fileURLToPath(new URL('./pipe-tap.js', import.meta.url));
const installed = (module: string): string => fileURLToPath(import.meta.resolve(module));
const everything = await serveEverything();

try {
  await playInWorld({}, async (run) => {
    const { checks, a, b, records, facts } = run;
    const { fhirServer, state } = facts;
    const own = await run.launch(a, 'patient/Observation.rs');
    const others = await run.launch(b, 'patient/Observation.rs');
    const log = (name: string): string => join(state, `${name}.jsonl`);
    // How fhir-mcp-server wants it: base URL and bearer token as arguments, which whoever may list processes can read. One is
    // configured for the patient of the session; the other one, by mistake, for somebody else.
    const fhirMcp = (name: string, token: string) => ({
      program: process.execPath,
      args: [tap, log(name), installed('fhir-mcp-server'), '-f', fhirServer, '--auth-type', 'bearer', '--auth-token', token],
    });

    const peers: Peer[] = [
      // Inside the trust boundary, unmodified: it gets nothing of the context, and what it answers is checked here.
      { name: 'fhir', resource: 'https://fhir-mcp.example/', kind: 'plain', command: fhirMcp('fhir', own.accessToken) },
      {
        name: 'mistaken',
        resource: 'https://mistaken.example/',
        kind: 'plain',
        command: fhirMcp('mistaken', others.accessToken),
      },
      // Outside of it: the same, and every call is recorded as a disclosure.
      { name: 'everything', resource: everything.url, kind: 'external' },
    ];
    const search = definePatientTool({
      name: 'fhir_search', // the server's own tool; a plain one has to be told whom it is about
      description: 'Search FHIR resources',
      scope: 'patient/Observation.rs',
      input: z.object({ resourceType: z.string(), parameters: z.record(z.string(), z.string()) }),
      output: z.object({ entry: z.array(z.object({ resource: z.looseObject({ id: z.string() }) })) }),
    });

    const environment = { program: process.execPath, args: [tap, log('child'), installed(EVERYTHING), 'stdio'] };
    peers.push({ name: 'child', resource: 'https://child.example/', kind: 'plain', command: environment });
    const getEnv = definePatientTool({
      ...{ name: 'get-env', description: 'Its environment', scope: search.scope },
      ...{ input: z.object({}), output: z.record(z.string(), z.string()) },
    });

    const desk = await run.desk('desk', peers);
    await using session = await openSession({ agent: desk, grant: own });
    const about = (patient: string) => ({ resourceType: 'Observation', parameters: { patient } });

    const answer = await session.call('fhir', search, about(a.id));
    process.stdout.write(`served by fhir-mcp-server: ${answer.entry.length} observations\n`);
    const found = answer.entry.map(({ resource }) => resource);
    checks.is('observations of the patient', idsOf(found), idsOf(records.ofPatient(a.id, 'Observation')));
    await checks.refused('rows of another patient', session.call('mistaken', search, about(b.id)), 40903, 'result');

    process.env.HMCP_ACCESS_TOKEN = own.accessToken; // what a child may be given on purpose, and none is by accident
    const known = Object.keys(await session.call('child', getEnv, {}));
    checks.is(
      'what a child knows of the environment',
      [known.includes('PATH'), known.includes('HMCP_ACCESS_TOKEN')],
      [true, false],
    );

    // A client one did not write, on a transport of the desk.
    const client = new Client({ name: 'any-client', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } });
    await client.connect(desk.transport(new StreamableHTTPClientTransport(new URL(everything.url)), 'everything'));
    const echo = (message: string, meta = {}) => client.callTool({ name: 'echo', arguments: { message }, _meta: meta });
    const envelope = { [META.context]: { version: '1', patient: a.id, intent: { id: 'written-by-the-caller' } } };
    const said = await session.act(() => echo('good morning', envelope));
    checks.is('what server-everything says', said.content, [{ type: 'text', text: 'Echo: good morning' }]);
    const [row] = records.ofPatient(b.id, 'Observation');
    await checks.refused(
      'another patient in plain text',
      session.act(() => echo(JSON.stringify(row))),
      40903,
      'result',
    );
    await client.close();
    await session.close();

    const pipes = async (name: string): Promise<Sent[]> =>
      (await readFile(log(name), 'utf8'))
        .split('\n')
        .flatMap((line) => (line === '' ? [] : [{ headers: {}, message: JSON.parse(line) }]));
    const [toFhir, toMistaken, toChild] = [await pipes('fhir'), await pipes('mistaken'), await pipes('child')];
    const secrets = [own.accessToken, others.accessToken, run.pseudonymKey, 'written-by-the-caller'];
    const called = (sent: readonly Sent[]): number =>
      sent.filter(({ message }) => (message as { method?: string } | undefined)?.method === 'tools/call').length;
    checks.is('calls that were seen at the wire', [toFhir, toMistaken, toChild, everything.sent].map(called), [1, 1, 1, 2]);
    checks.is('what the context let out', leaksIn([...toFhir, ...toMistaken, ...toChild, ...everything.sent], secrets), []);

    // The same search finds it when it is there: the same call by a client that nothing stands in front of.
    const before = everything.sent.length;
    const bare = new Client({ name: 'bare', version: '1.0.0' });
    const headers = { authorization: `Bearer ${own.accessToken}`, 'x-hmcp-patient': a.id };
    await bare.connect(new StreamableHTTPClientTransport(new URL(everything.url), { requestInit: { headers } }));
    await bare.callTool({ name: 'echo', arguments: { message: 'hello' }, _meta: envelope });
    await bare.close();
    const planted = [...new Set(leaksIn(everything.sent.slice(before), secrets))].sort();
    checks.is('what the planted leak lets out', planted, ['a word', 'authorization', META.context, 'x-hmcp-patient'].sort());

    await run.stop();
    checks.is('what the desk recorded', await run.decisions('desk'), [
      'hop.call fhir_search',
      'hop.result fhir_search',
      'hop.call fhir_search',
      'hop.dropped fhir_search 40903',
      'hop.call get-env',
      'hop.result get-env',
      'hop.disclosure echo',
      'hop.result echo',
      'hop.disclosure echo',
      'hop.dropped echo 40903',
    ]);
  });
} finally {
  await everything.close();
}
