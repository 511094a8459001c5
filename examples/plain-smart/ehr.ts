// A SMART EHR as its own process: authorization server and FHIR API, with one public app registered. It has never heard of HMCP:
// no scope, no token exchange, no manager, and a request that speaks of any of it is a bad request. `node ehr.js STATE CLIENT REDIRECT`.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { openFileAudit } from '@hmcp/audit';
import { createTokenVerifier } from '@hmcp/auth';
import { createAuthorizationServer, smartConfiguration } from '@hmcp/authorization-server';
import { createFhirServer, isPickable, patientSummaries, recordsOf, runParty } from '@hmcp/clinic';
import { nodeListener } from '@hmcp/server';

const [state = '', clientId = '', redirectUri = ''] = process.argv.slice(2);

await runParty(async () => {
  const http = createServer();
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  const { port } = http.address() as AddressInfo;
  const issuer = `http://127.0.0.1:${port}`;
  const fhirServer = `${issuer}/fhir`;
  const records = await recordsOf(undefined);
  const auditKey = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('base64url');
  const config = {
    publicUrl: issuer,
    fhirServer,
    state,
    pseudonymKey: auditKey,
    people: patientSummaries(records)
      .filter(isPickable)
      .map(({ id, name, birthDate }) => ({ id, name, birthDate })),
    accounts: [
      {
        username: 'dr-okafor',
        password: 'development',
        name: 'Dr. Ada Okafor',
        fhirUser: 'Practitioner/dr-okafor',
        patients: '*' as const,
      },
    ],
    clients: [
      {
        clientId,
        name: 'Visit summary',
        redirectUris: [redirectUri],
        scope: 'launch/patient openid patient/Patient.r patient/Observation.rs',
        grants: ['authorization_code' as const],
      },
    ],
    resources: [],
  };
  const audit = await openFileAudit({ file: join(state, 'ehr-tokens.jsonl'), by: issuer });
  const reads = await openFileAudit({ file: join(state, 'ehr-fhir.jsonl'), by: fhirServer });
  const authorization = await createAuthorizationServer({ config, audit });
  const fhir = nodeListener(
    createFhirServer({
      base: fhirServer,
      records,
      verifier: createTokenVerifier({ resource: fhirServer, issuers: [{ issuer, fhirServer }] }),
      audit: reads,
      auditKey,
      smartConfiguration: { ...smartConfiguration(config), grant_types_supported: ['authorization_code'] },
    }),
  );
  http.on('request', (request, response) => {
    const speaks = `${request.url} ${request.rawHeaders.join(' ')}`;
    if (/hmcp|token-exchange/i.test(speaks)) response.writeHead(400).end();
    else if (request.url?.startsWith('/fhir/')) fhir(request, response);
    else authorization.handle(request, response);
  });
  return {
    port,
    async close() {
      http.closeAllConnections();
      http.close();
      await audit.close();
      await reads.close();
    },
  };
});
