import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { getJson } from '../src/authority.js';
import { AuthorityUnavailable, DiscoveryError, discover } from '../src/index.js';
import { loopback, METADATA } from './support/issuer.js';

let http: Awaited<ReturnType<typeof loopback>>;
beforeEach(async () => {
  http = await loopback();
});
afterEach(() => http.close());

const faultOf = async (promise: Promise<unknown>) => {
  const error = await promise.catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(DiscoveryError);
  return (error as DiscoveryError).fault;
};

describe('by issuer', () => {
  it('reads RFC 8414 metadata', async () => {
    http.on(METADATA, () => ({ issuer: http.url, token_endpoint: `${http.url}/token`, other: 1 }));
    await expect(discover({ issuer: http.url })).resolves.toMatchObject({ token_endpoint: `${http.url}/token`, other: 1 });
  });

  it('falls back to OpenID discovery', async () => {
    http.on('/.well-known/openid-configuration', () => ({ issuer: http.url }));
    await expect(discover({ issuer: http.url })).resolves.toEqual({ issuer: http.url });
  });

  it('of an issuer with a path looks in the three places of MCP, in its order', async () => {
    expect(await faultOf(discover({ issuer: `${http.url}/t1` }))).toBe('not_found');
    expect(http.asked).toEqual([
      '/.well-known/oauth-authorization-server/t1',
      '/.well-known/openid-configuration/t1',
      '/t1/.well-known/openid-configuration',
    ]);
  });

  it.each([
    ['a slash', (url: string) => `${url}/`],
    ['case', (url: string) => url.toUpperCase()],
    ['a host name', (url: string) => url.replace('127.0.0.1', 'localhost')],
    ['everything', () => 'https://evil.example'],
  ])('refuses metadata whose issuer differs by %s', async (_, change) => {
    http.on(METADATA, () => ({ issuer: change(http.url) }));
    expect(await faultOf(discover({ issuer: http.url }))).toBe('issuer_mismatch');
  });

  it.each([
    ['null'],
    [7],
    [[]],
    [{}],
    [{ issuer: 7 }],
    [{ issuer: 'x', jwks_uri: 7 }],
  ])('refuses %j as malformed', async (body) => {
    http.on(METADATA, () => body);
    expect(await faultOf(discover({ issuer: http.url }))).toBe('malformed');
  });

  it.each([
    'http://keys.example/jwks',
    'file:///etc/passwd',
    '/jwks',
    'https://u:p@as.example/jwks',
  ])('refuses keys at %s', async (jwks_uri) => {
    http.on(METADATA, () => ({ issuer: http.url, jwks_uri }));
    expect(await faultOf(discover({ issuer: http.url }))).toBe('insecure_url');
  });

  it.each([500, 503, 429])('an authorization server that answers %i is unavailable, not missing', async (status) => {
    http.on(METADATA, (_request, _body, response) => {
      response.statusCode = status;
      response.setHeader('retry-after', '7');
    });
    await expect(discover({ issuer: http.url })).rejects.toMatchObject({ name: 'AuthorityUnavailable', retryAfterSeconds: 7 });
  });

  it('takes no redirect, no endless document and no endless wait', async () => {
    http.on(METADATA, (_request, _body, response) => {
      response.statusCode = 302;
      response.setHeader('location', '/elsewhere');
    });
    expect(await faultOf(discover({ issuer: http.url }))).toBe('malformed');
    expect(http.count('/elsewhere')).toBe(0);

    http.on('/large', () => ({ issuer: 'x'.repeat(300_000) }));
    await expect(getJson(`${http.url}/large`, {})).rejects.toBeInstanceOf(AuthorityUnavailable);

    http.on('/never', () => new Promise(() => undefined));
    await expect(getJson(`${http.url}/never`, { timeoutMs: 20 })).rejects.toBeInstanceOf(AuthorityUnavailable);
  });
});

describe('by FHIR server', () => {
  const smart = (extra: Record<string, unknown> = {}) =>
    http.on('/r4/.well-known/smart-configuration', () => ({
      ...{ issuer: http.url, token_endpoint: `${http.url}/token`, authorization_endpoint: `${http.url}/auth` },
      ...extra,
    }));

  it('reads smart-configuration, with or without a slash at the end of the base', async () => {
    smart();
    for (const base of ['/r4', '/r4/']) {
      await expect(discover({ fhirServer: http.url + base })).resolves.toMatchObject({ token_endpoint: `${http.url}/token` });
    }
  });

  it('resolves relative endpoints against the base', async () => {
    smart({ authorization_endpoint: 'oauth/authorize' });
    const { authorization_endpoint } = await discover({ fhirServer: `${http.url}/r4` });
    expect(authorization_endpoint).toBe(`${http.url}/r4/oauth/authorize`);
  });

  it('adds what the issuer itself publishes', async () => {
    smart();
    http.on(METADATA, () => ({ issuer: http.url, jwks_uri: `${http.url}/jwks`, token_endpoint: `${http.url}/token` }));
    await expect(discover({ fhirServer: `${http.url}/r4` })).resolves.toMatchObject({ jwks_uri: `${http.url}/jwks` });
  });

  it('refuses a FHIR server that names an honest issuer and its own token endpoint', async () => {
    const honest = await loopback();
    honest.on(METADATA, () => ({ issuer: honest.url, token_endpoint: `${honest.url}/token` }));
    smart({ issuer: honest.url, authorization_endpoint: `${honest.url}/auth` });
    expect(await faultOf(discover({ fhirServer: `${http.url}/r4` }))).toBe('endpoint_mismatch');
    await honest.close();
  });

  it('takes a server that names no issuer, as SMART asks of one without OpenID Connect, at its own word', async () => {
    smart({ issuer: undefined });
    http.on(METADATA, () => ({ issuer: 'https://other.example', token_endpoint: 'https://other.example/token' }));
    const metadata = await discover({ fhirServer: `${http.url}/r4` });
    expect(metadata).toEqual({ token_endpoint: `${http.url}/token`, authorization_endpoint: `${http.url}/auth` });
  });

  it('refuses an issuer that calls itself something else, and one that is insecure or no text', async () => {
    smart();
    http.on(METADATA, () => ({ issuer: 'https://other.example' }));
    expect(await faultOf(discover({ fhirServer: `${http.url}/r4` }))).toBe('issuer_mismatch');
    for (const issuer of [null, 7, ['a']]) {
      smart({ issuer });
      expect(await faultOf(discover({ fhirServer: `${http.url}/r4` }))).toBe('malformed');
    }
    smart({ issuer: 'http://as.example' });
    expect(await faultOf(discover({ fhirServer: `${http.url}/r4` }))).toBe('insecure_url');
  });

  it('refuses a base that is not secure', async () => {
    await expect(discover({ fhirServer: 'http://fhir.example' })).rejects.toThrow('"fhirServer"');
  });
});
