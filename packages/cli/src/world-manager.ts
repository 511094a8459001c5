import { join } from 'node:path';
import type { TrustedManager } from '@hmcp/auth';
import type { ClientRegistration, Manager } from '@hmcp/authorization-server';
import { MANAGER_SCOPES } from '@hmcp/core';
import type { ContextManagerConfig } from './context-manager-party.js';
import { keptKey } from './kept-keys.js';
import type { WorldFacts } from './world-facts.js';

/** Name of the context manager's party, and its client identifier. */
export const MANAGER = 'context-manager';
const TRUST_DOMAIN = 'hmcp-development';

/** What the world says of its context manager: to itself, to the authorization server, and to everybody who trusts it. */
export interface ManagerPlan {
  readonly registration: ClientRegistration;
  /** For every trust list. */
  readonly trusted: Manager & TrustedManager;
  readonly config: ContextManagerConfig;
  readonly facts: Omit<WorldFacts['manager'], 'participants'>;
}

/** Plans the context manager of a world, with keys of its own for tokens and for seals. */
export async function planManager(
  given: Pick<
    ContextManagerConfig,
    'publicUrl' | 'issuer' | 'fhirServer' | 'pseudonymKey' | 'clients' | 'timing' | 'logLevel'
  > & {
    readonly state: string;
  },
): Promise<ManagerPlan> {
  const { state, publicUrl, issuer, fhirServer, pseudonymKey, clients, timing, logLevel } = given;
  const key = await keptKey(join(state, 'keys', `${MANAGER}.jwks.json`), MANAGER);
  const sealKeys = join(state, 'keys', `${MANAGER}-seals.jwks.json`);
  const { d: _, ...sealKey } = (await keptKey(sealKeys, `${MANAGER}-seals`, 'ES256')).publicKey;
  const trusted = {
    issuer: new URL(publicUrl).origin,
    resource: publicUrl,
    clientId: MANAGER,
    keys: { keys: [{ ...sealKey, kty: 'EC' as const, kid: sealKey.kid }] },
    trustDomain: TRUST_DOMAIN,
    fhirServers: [fhirServer],
    tokenIssuers: [issuer],
  };
  const store = join(state, `${MANAGER}.sqlite`);
  return {
    registration: {
      clientId: MANAGER,
      name: MANAGER,
      scope: [...Object.values(MANAGER_SCOPES), 'patient/Patient.r'].join(' '),
      jwks: { keys: [key.publicKey] },
      redirectUris: [],
      targets: [],
      grants: ['token-exchange', 'client_credentials'],
      resource: publicUrl,
    },
    trusted,
    config: {
      name: MANAGER,
      role: MANAGER,
      publicUrl,
      issuer,
      fhirServer,
      trustDomain: TRUST_DOMAIN,
      client: { clientId: MANAGER, privateKey: key.privateKey as ContextManagerConfig['client']['privateKey'] },
      sealKeys,
      // In development all hops pseudonymize with one key, so that their audits can be read together.
      tenantKey: pseudonymKey,
      pseudonymKey,
      clients,
      timing,
      store,
      logLevel,
    },
    facts: { resource: publicUrl, store, sealKeys, trusted },
  };
}
