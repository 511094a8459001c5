// Serves the agent of examples/readme over its pipes: `node child.js CONFIG`. Its parent starts it; it listens nowhere.
import { readFile } from 'node:fs/promises';
import { openFileAudit } from '@hmcp/audit';
import { createTokenExchanger, createTokenVerifier } from '@hmcp/auth';
import { serveStdio } from '@hmcp/server';
import { problems } from '../readme/server.js';

const config = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8'));

const { publicUrl, issuer, fhirServer, client, auditFile, pseudonymKey } = config;
const audit = await openFileAudit({ file: auditFile, by: publicUrl });
const served = serveStdio(problems, {
  resource: publicUrl, // nobody listens there: it is what its tokens are for
  authorizationServers: [issuer],
  verifier: createTokenVerifier({ resource: publicUrl, issuers: [{ issuer, fhirServer }] }),
  tokens: createTokenExchanger({ issuer, client }),
  audit,
  pseudonymKey,
});
process.stdin.once('end', async () => {
  await served.close(); // the parent has gone, or wants it no more
  await audit.close();
});
