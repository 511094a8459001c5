// This program as a caller of other agents: `peers` are all it may call about a patient.
import { createAgent } from '@hmcp/agent';
import { createSealVerifier } from '@hmcp/auth';
import { audit, config, tokens } from './deployment.js';

const { name, publicUrl, client, peers, managers, pseudonymKey } = config;

export const caller = createAgent({
  name,
  resource: publicUrl,
  clientId: client.clientId,
  peers,
  tokens,
  seals: createSealVerifier({ managers }),
  audit,
  pseudonymKey,
});
