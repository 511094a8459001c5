import { unusable } from '@hmcp/core';
import type { JSONWebKeySet } from 'jose';
import { checkSealKeys } from './seal-keys.js';
import { resourceIdentifier, secureUrl } from './secure-url.js';

/** A context manager whose seals are believed, and of which patients. Nothing of it is discovered from a seal. @see protocol section 1 */
export interface TrustedManager {
  /** `iss` of its seals, compared as a string. */
  readonly issuer: string;
  /** Its resource identifier: the audience of tokens it accepts. */
  readonly resource: string;
  /** Its client identifier, with which it calls participants. */
  readonly clientId: string;
  /** Where its public keys are, unless `keys` holds them. */
  readonly jwksUri?: string | undefined;
  /** A JWK set of public keys for ES256 or EdDSA, each with its `kid`. */
  readonly keys?: JSONWebKeySet | undefined;
  /** `aud` of its seals. */
  readonly trustDomain: string;
  /** FHIR bases whose patients it may name. */
  readonly fhirServers: readonly string[];
  /** When given, a seal must name one of these tenants. */
  readonly tenants?: readonly string[] | undefined;
  /** Authorization servers whose people it may name. */
  readonly tokenIssuers: readonly string[];
}

/** @throws {TypeError} naming the member that is not usable */
export function checkManagers(managers: readonly TrustedManager[]): void {
  if (!Array.isArray(managers)) throw new TypeError('"managers" is missing');
  for (const [index, manager] of managers.entries()) {
    const at = `managers[${index}]`;
    secureUrl(manager.issuer, `${at}.issuer`);
    resourceIdentifier(manager.resource, `${at}.resource`);
    named(manager.clientId, `${at}.clientId`);
    named(manager.trustDomain, `${at}.trustDomain`);
    if ((manager.jwksUri === undefined) === (manager.keys === undefined))
      throw new TypeError(`"${at}" must have either "jwksUri" or "keys"`);
    if (manager.jwksUri !== undefined) secureUrl(manager.jwksUri, `${at}.jwksUri`);
    if (manager.keys !== undefined) checkSealKeys(manager.keys, `${at}.keys`);
    if (!(manager.fhirServers?.length > 0)) throw unusable(`"${at}.fhirServers" must name at least one`, 40903, 'seal');
    if (!(manager.tokenIssuers?.length > 0)) throw unusable(`"${at}.tokenIssuers" must name at least one`, 40903, 'seal');
    if (manager.tenants?.length === 0) throw new TypeError(`"${at}.tenants" must not be empty`);
    const again = managers.findIndex(({ issuer }) => issuer === manager.issuer);
    if (again !== index) throw new TypeError(`"${at}.issuer" is listed twice`);
  }
}

function named(value: unknown, member: string): void {
  if (value === undefined) throw new TypeError(`"${member}" is missing`);
  if (typeof value !== 'string' || value === '') throw new TypeError(`"${member}" is empty or no text`);
}
