import { readFile } from 'node:fs/promises';
import { openFileAudit } from '@hmcp/audit';
import { labs, medications, readPartyConfig, runParty, serveFhir, serveParty, servePortal, triage } from '@hmcp/clinic';

/** Entry of every process of the development world: `node party.js ROLE CONFIG`. */
const [role, file = ''] = process.argv.slice(2);

const agents = { labs, medications, triage } as const;

await runParty(async () => {
  if (role === 'authorization-server') {
    const { listenAuthorizationServer } = await import('@hmcp/authorization-server');
    return listenAuthorizationServer(JSON.parse(await readFile(file, 'utf8')), openFileAudit);
  }
  const config = await readPartyConfig(file);
  if (role === 'fhir') return serveFhir(config);
  if (role === 'portal') return servePortal(config);
  const agent = agents[role as keyof typeof agents];
  if (agent === undefined) throw new TypeError('the first argument must be a role');
  return serveParty(agent, config);
});
