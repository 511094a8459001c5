import { type Finding, failure, ok, warning } from './finding.js';

/** What a TLS handshake showed of a certificate. */
export interface Certificate {
  /** True when this machine's trust store accepts it for the host. */
  readonly trusted: boolean;
  /** ms since the epoch. */
  readonly validFrom: number;
  readonly validTo: number;
}

const DAY_MS = 86_400_000;
const SOON_MS = 14 * DAY_MS;

/** Whether an address may be used at all: https, or http to loopback outside production. @see protocol section 9 */
export function judgeAddress(url: string, production: boolean): Finding | undefined {
  const { protocol, hostname } = new URL(url);
  if (protocol === 'https:') return undefined;
  const loopback = hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname);
  if (protocol === 'http:' && loopback && !production) return ok('tls', url, 'http, to this machine only');
  const found = loopback
    ? 'http to loopback, with NODE_ENV=production'
    : 'not https: everybody on the way can read and change it';
  return failure('tls', url, found, 'give it an https address');
}

/** Whether a certificate holds now, and for the next two weeks. `undefined`: no handshake came about. */
export function judgeCertificate(url: string, certificate: Certificate | undefined, now: number): Finding {
  if (certificate === undefined)
    return failure('tls', url, 'no TLS handshake came about', 'let it listen, and with TLS, at this address');
  const { trusted, validFrom, validTo } = certificate;
  if (!(now < validTo)) return failure('tls', url, `its certificate expired on ${day(validTo)}`, 'renew the certificate');
  if (!(now >= validFrom))
    return failure('tls', url, `its certificate is not valid before ${day(validFrom)}`, 'correct the clock, or the certificate');
  if (!trusted)
    return failure(
      'tls',
      url,
      'this machine does not trust its certificate for this host',
      'use a certificate for this host of an authority that NODE_EXTRA_CA_CERTS or the system knows',
    );
  if (validTo - now < SOON_MS) return warning('tls', url, `its certificate expires on ${day(validTo)}`, 'renew the certificate');
  return ok('tls', url, `its certificate holds until ${day(validTo)}`);
}

function day(ms: number): string {
  return Number.isFinite(ms) ? new Date(ms).toISOString().slice(0, 10) : 'an unknown day';
}
