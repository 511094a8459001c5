import { openFileAudit } from '@hmcp/audit';
import {
  endOnFault,
  labs,
  medications,
  readPartyConfig,
  runParty,
  serveFhir,
  serveOrders,
  serveParty,
  servePortal,
  triage,
} from '@hmcp/clinic';

/** Entry of every process of the development world: `node party.js ROLE CONFIG`. */
const [role, file = ''] = process.argv.slice(2);

const agents = { labs, medications, triage } as const;

endOnFault(role ?? 'party');
if (role === 'authorization-server') {
  const { runAuthorizationServer } = await import('@hmcp/authorization-server');
  await runAuthorizationServer(file, openFileAudit);
} else {
  await runParty(async () => {
    if (role === 'context-manager') return (await import('./context-manager-party.js')).serveContextManager(file);
    const config = await readPartyConfig(file);
    if (role === 'fhir') return serveFhir(config);
    if (role === 'portal') return servePortal(config);
    if (role === 'orders') return serveOrders(config);
    const agent = agents[role as keyof typeof agents];
    if (agent === undefined) throw new TypeError('the first argument must be a role');
    return serveParty(agent, config);
  });
}
