// Serves the agent as its own process: `node serve.js CONFIG`. The development world writes CONFIG and starts this program.
import { readFile } from 'node:fs/promises';
import { openFileAudit } from '@hmcp/audit';
import { createTokenExchanger, createTokenVerifier } from '@hmcp/auth';
import { serve } from '@hmcp/server';
import { problems } from './server.js';

const config = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8'));

// #region serve
const { publicUrl, issuer, fhirServer, client, auditFile, pseudonymKey } = config;
const audit = await openFileAudit({ file: auditFile, by: publicUrl });
const served = await serve(problems, {
  resource: publicUrl,
  authorizationServers: [issuer],
  verifier: createTokenVerifier({ resource: publicUrl, issuers: [{ issuer, fhirServer }] }),
  tokens: createTokenExchanger({ issuer, client }),
  audit,
  pseudonymKey,
});
// #endregion

const stop = async (): Promise<void> => {
  await served.close();
  await audit.close();
  process.exit(0);
};
process.once('SIGTERM', stop);
process.once('SIGINT', stop);
process.once('disconnect', stop);
process.send?.({ type: 'listening', port: served.port });
