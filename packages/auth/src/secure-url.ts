/**
 * Reads the URL of a configured authority or peer (issuer, token endpoint, JWKS, FHIR server, manager, other agent):
 * `https:`, or `http:` to a loopback address while `NODE_ENV` is not `production`. No user information, no fragment.
 * @param option name of the option, as the person who configured it wrote it; the error says it, never the value.
 * @throws {TypeError} naming the option
 * @see protocol section 9
 */
export function secureUrl(value: string, option: string): URL {
  const url = absolute(value, option);
  if (url.username !== '' || url.password !== '') throw new TypeError(`"${option}" must not hold user information`);
  if (url.protocol === 'https:') return url;
  const loopback = url.protocol === 'http:' && isLoopback(url.hostname);
  if (loopback && process.env.NODE_ENV !== 'production') return url;
  throw new TypeError(`"${option}" must be https: (http: only to a loopback address, and never in production)`);
}

/**
 * Checks a resource identifier (RFC 8707 section 2): an absolute URI without fragment. It is compared as a string, never normalised.
 * @throws {TypeError} naming the option
 */
export function resourceIdentifier(value: string, option: string): string {
  absolute(value, option);
  return value;
}

function absolute(value: string, option: string): URL {
  if (typeof value !== 'string' || /[\s\p{Cc}]/u.test(value)) throw new TypeError(`"${option}" must be an absolute URL`);
  if (!URL.canParse(value)) throw new TypeError(`"${option}" must be an absolute URL`);
  if (value.includes('#')) throw new TypeError(`"${option}" must not have a fragment`);
  return new URL(value);
}

/** URL parsing has already brought `127.1`, `0x7f.0.0.1` and `[0:0:0:0:0:0:0:1]` into these forms. */
function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname);
}
