import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createAgent } from '@hmcp/agent';
import { openFileAudit } from '@hmcp/audit';
import { createSealVerifier, createTokenExchanger, smartClient } from '@hmcp/auth';
import type { WorldFacts } from '@hmcp/cli/world';
import type { Desk } from './orchestrator.js';

/** The orchestrator's own key, audit log and peers; here read from the state folder of a development world. */
export async function openDesk({ facts, audit: name }: { readonly facts: WorldFacts; readonly audit: string }) {
  const { clientId, redirectUri, keyFile } = facts.client;
  const [privateKey] = JSON.parse(await readFile(keyFile, 'utf8')).keys;
  const audit = await openFileAudit({ file: join(facts.state, 'audit', `${name}.jsonl`), by: clientId });
  const portal = createAgent({
    name: 'portal',
    clientId,
    peers: facts.parties.flatMap(({ name, resource }) => (name === 'labs' && resource ? [{ name, resource, kind: 'hmcp' }] : [])),
    tokens: createTokenExchanger({ issuer: facts.issuer, client: { clientId, privateKey } }),
    seals: createSealVerifier({ managers: [facts.manager.trusted] }), // whose seals this process believes
    audit,
    pseudonymKey: (await readFile(join(facts.state, 'keys', 'pseudonym.txt'), 'utf8')).trim(),
  });
  const smart = smartClient({ fhirServer: facts.fhirServer, clientId, redirectUri, privateKey });
  return {
    smart,
    portal,
    async close(): Promise<void> {
      await portal.close();
      await audit.close();
    },
  } satisfies Pick<Desk, 'smart' | 'portal'> & { close(): Promise<void> };
}
