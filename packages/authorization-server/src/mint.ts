import type { HmcpClaim } from '@hmcp/core';
import type { Account } from './config.js';

/** What was established when a person launched an application; bound to one grant and never changed. */
export interface LaunchContext {
  readonly username: string;
  readonly patient?: string | undefined;
  readonly encounter?: string | undefined;
  readonly tenant?: string | undefined;
}

/** Claims this server adds to a JWT access token (RFC 9068), beside the registered ones. @see protocol section 2.1 */
export interface ContextClaims {
  readonly patient?: string;
  readonly encounter?: string;
  readonly tenant?: string;
  readonly fhirUser?: string;
  readonly txn?: string;
  readonly act?: { readonly sub: string; readonly act?: unknown };
  readonly __hmcp: HmcpClaim;
}

/** The claims of a launch or refresh token: the context of its grant, an absolute `fhirUser`, an empty chain. */
export function launchClaims(context: LaunchContext, account: Account, fhirServer: string): ContextClaims {
  return {
    ...(context.patient === undefined ? {} : { patient: context.patient }),
    ...(context.encounter === undefined ? {} : { encounter: context.encounter }),
    ...(context.tenant === undefined ? {} : { tenant: context.tenant }),
    fhirUser: fhirUserUrl(account, fhirServer),
    __hmcp: { v: 1, chain: [] },
  };
}

/** The claims of a client-credentials token: no person, no patient. */
export function backendClaims(tenant: string | undefined): ContextClaims {
  return { ...(tenant === undefined ? {} : { tenant }), __hmcp: { v: 1, chain: [] } };
}

/** The launch context parameters of a token response: what the application must know of its own token. @see SMART App Launch */
export function launchParameters(claims: Readonly<Record<string, unknown>>): Record<string, string> {
  const names = ['patient', 'encounter', 'tenant', 'fhirUser'];
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = claims[name];
      return typeof value === 'string' ? [[name, value]] : [];
    }),
  );
}

/** The account's FHIR resource as an absolute URL under the FHIR base. */
export function fhirUserUrl(account: Account, fhirServer: string): string {
  return `${fhirServer.replace(/\/$/, '')}/${account.fhirUser}`;
}
