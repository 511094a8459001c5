import { listResults, readPartyConfig, runParty, serveParty } from '@hmcp/clinic';
import { createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import { type Gate, openGate } from './gate.js';

// A laboratory on this project's server that answers late: it has read A's results and holds them at a gate until the story opens
// it over the control channel of the process. As slow systems do, it does not notice that its caller gave up.
await runParty(async () => {
  const config = await readPartyConfig(process.argv[2] ?? '');
  const gate: Gate = openGate(process);
  const slowLab = defineAgent('slow-lab', (env) => {
    const handler = createHmcpHandler(() => {
      const server = new McpServer({ name: 'slow-lab', version: '1.0.0' });
      patientTool(server, listResults, async ({ category }, { fhir }) => {
        const results = await fhir.search('Observation', { category });
        await gate.pass();
        return { results };
      });
      return server;
    }, env);
    return { ...handler, fetch: (request) => handler.fetch(withoutSignal(request)) };
  });
  return serveParty(slowLab, config);
});

/** The same request, of which nobody hears that it was cancelled. */
function withoutSignal(request: Request): Request {
  const { url, method, headers, body } = request;
  return new Request(url, { method, headers, ...(body === null ? {} : { body, duplex: 'half' }) } as RequestInit);
}
