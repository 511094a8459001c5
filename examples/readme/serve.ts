// serve.ts: serves the agent as its own process, `node serve.js CONFIG`; `hmcp dev` writes CONFIG and starts it
import { readFile } from 'node:fs/promises';
import { openFileAudit } from '@hmcp/audit';
import { createTokenExchanger, createTokenVerifier } from '@hmcp/auth';
import { serve } from '@hmcp/server';
import { problems } from './server.js';

const config = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8'));
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
process.send?.({ type: 'listening', port: served.port });

const stop = async (): Promise<void> => {
  await served.close();
  await audit.close();
  process.exit(0);
};
process.once('SIGTERM', stop);
process.once('SIGINT', stop);
process.once('disconnect', stop);
