import { SERVED_TYPES, searchParameterTypes } from './fhir-parameters.js';

/** What a CapabilityStatement is made from. */
export interface CapabilityOptions {
  readonly base: string;
  /** `authorization_endpoint` and `token_endpoint`, repeated in the SMART security extension when known. */
  readonly smart?: { readonly authorization_endpoint?: unknown; readonly token_endpoint?: unknown } | undefined;
  /** ISO date of the statement. */
  readonly date: string;
}

const OAUTH_URIS = 'http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris';

/** The server's CapabilityStatement: read and search of the types it serves, with exactly the parameters that are served. */
export function capabilityStatement({ base, smart, date }: CapabilityOptions): object {
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
        resource: [...SERVED_TYPES].map((type) => ({
          type,
          interaction: [{ code: 'read' }, { code: 'search-type' }],
          searchParam: searchParameterTypes(type),
        })),
      },
    ],
  };
}
