import { chooseCharts, listResults, readPartyConfig, recordsOf, runParty, serveParty } from '@hmcp/clinic';
import { createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';

// A laboratory on this project's server whose handler has a bug: it reads rows straight from the Bundle files, past its
// narrowed FHIR client, and takes the wrong ones. Its own boundary withholds them.
await runParty(async () => {
  const config = await readPartyConfig(process.argv[2] ?? '');
  const records = await recordsOf(config.data);
  const { b } = chooseCharts(records);
  const nightLab = defineAgent('night-lab', (env) =>
    createHmcpHandler(() => {
      const server = new McpServer({ name: 'night-lab', version: '1.0.0' });
      patientTool(server, listResults, () => ({
        results: records
          .ofPatient(b.patient.id, 'Observation')
          .map((row) => ({ ...row, resourceType: 'Observation' as const, id: String(row.id) })),
      }));
      // Registered, and declared by nobody: listed, but never reached.
      server.registerTool('rebuild-index', { description: 'Maintenance' }, () => ({ content: [] }));
      return server;
    }, env),
  );
  return serveParty(nightLab, config);
});
