import { patientParameters, searchParameters } from './fhir-search.js';
import { DIRECTORY_TYPES } from './records.js';

/** What a CapabilityStatement is made from. */
export interface CapabilityOptions {
  readonly base: string;
  readonly types: readonly string[];
  /** `authorization_endpoint` and `token_endpoint`, repeated in the SMART security extension when known. */
  readonly smart?: { readonly authorization_endpoint?: unknown; readonly token_endpoint?: unknown } | undefined;
  /** ISO date of the statement. */
  readonly date: string;
}

const OAUTH_URIS = 'http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris';

/** The server's CapabilityStatement: read and search of the types it holds, with exactly the parameters that are served. */
export function capabilityStatement({ base, types, smart, date }: CapabilityOptions): object {
  const uris = [
    { url: 'authorize', valueUri: smart?.authorization_endpoint },
    { url: 'token', valueUri: smart?.token_endpoint },
  ].filter(({ valueUri }) => typeof valueUri === 'string');
  return {
    resourceType: 'CapabilityStatement',
    status: 'active',
    date,
    kind: 'instance',
    implementation: { description: 'Synthetic records for development', url: base },
    fhirVersion: '4.0.1',
    format: ['application/fhir+json'],
    rest: [
      {
        mode: 'server',
        security: {
          ...(uris.length === 0 ? {} : { extension: [{ url: OAUTH_URIS, extension: uris }] }),
          service: [
            {
              coding: [{ system: 'http://terminology.hl7.org/CodeSystem/restful-security-service', code: 'SMART-on-FHIR' }],
              text: 'OAuth2 using SMART-on-FHIR profile (see http://docs.smarthealthit.org)',
            },
          ],
        },
        resource: types.map((type) => ({
          type,
          interaction: [{ code: 'read' }, { code: 'search-type' }],
          searchParam: [
            { name: '_id', type: 'token' },
            ...patientParameters(type, DIRECTORY_TYPES.has(type)).map((name) => ({ name, type: 'reference' })),
            ...Object.entries(searchParameters(type)).map(([name, { kind }]) => ({ name, type: kind })),
          ],
        })),
      },
    ],
  };
}
