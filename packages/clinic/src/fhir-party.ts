import { openFileAudit } from '@hmcp/audit';
import { createTokenVerifier } from '@hmcp/auth';
import type { Listening, PartyConfig } from './deployment.js';
import { listenFhir } from './fhir-listener.js';
import { createFhirServer } from './fhir-server.js';
import { shippedRecords, staffBundle } from './people/shipped.js';
import type { Records } from './records.js';
import { loadRecords } from './records-folder.js';

/** The records of a folder of Bundles, or of the people the project ships when there is none; the clinic's staff is in both. */
export function recordsOf(folder: string | undefined): Promise<Records> {
  return folder === undefined ? Promise.resolve(shippedRecords()) : loadRecords(folder, { also: [staffBundle()] });
}

/** Serves the FHIR API as a party. */
export async function serveFhir(config: PartyConfig): Promise<Listening> {
  const base = config.fhirServer;
  const audit = await openFileAudit({ file: config.auditFile, by: config.publicUrl });
  const verifier = createTokenVerifier({ resource: base, issuers: [{ issuer: config.issuer, fhirServer: base }] });
  const server = createFhirServer({
    base,
    records: await recordsOf(config.data),
    verifier,
    audit,
    auditKey: config.pseudonymKey,
    smartConfiguration: config.smartConfiguration ?? {},
  });
  const listener = await listenFhir(server, { base });
  return {
    port: listener.port,
    async close() {
      await listener.close();
      await audit.close();
    },
  };
}
