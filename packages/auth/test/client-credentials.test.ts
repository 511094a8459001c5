import { decodeJwt } from 'jose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AuthorityUnavailable, createClientCredentials, ExchangeRefused } from '../src/index.js';
import { clock, type SigningKey, signingKey, type TinyIssuer, tinyIssuer } from './support/issuer.js';

const REQUEST = { resource: 'https://orders.example/mcp', scope: 'hmcp:context.control' };
let issuer: TinyIssuer;
let key: SigningKey;
beforeEach(async () => {
  issuer = await tinyIssuer();
  key = await signingKey('m1', 'ES384');
});
afterEach(() => issuer.close());

function credentials(time = clock()) {
  const client = { clientId: 'manager', privateKey: key.privateJwk };
  return { time, client: createClientCredentials({ issuer: issuer.url, client, now: time.now }) };
}
const granted = (more = {}) => ({ access_token: 'at-1', token_type: 'Bearer', expires_in: 300, ...more });

describe('client credentials', () => {
  it('authenticate the client for one resource and scope, and name nobody', async () => {
    let asked = new URLSearchParams();
    issuer.on('/token', (_, body) => {
      asked = body;
      return granted();
    });
    const { client, time } = credentials();
    expect(await client.token(REQUEST)).toEqual({
      ...{ accessToken: 'at-1', scope: REQUEST.scope, expiresAt: time.now() / 1000 + 300 },
    });
    expect(Object.fromEntries(asked)).toMatchObject({ grant_type: 'client_credentials', ...REQUEST });
    expect(decodeJwt(asked.get('client_assertion') ?? '')).toMatchObject({ iss: 'manager', sub: 'manager' });
  });

  it('ask once for a token that lives, again when it is about to end, and once for all who wait', async () => {
    issuer.on('/token', () => granted());
    const { client, time } = credentials();
    await Promise.all([client.token(REQUEST), client.token(REQUEST)]);
    await client.token(REQUEST);
    expect(issuer.count('/token')).toBe(1);
    time.advance(271);
    await client.token(REQUEST);
    await client.token({ ...REQUEST, resource: 'https://labs.example/mcp' });
    expect(issuer.count('/token')).toBe(3);
  });

  it.each([
    ['a refusal', 400, { error: 'invalid_scope' }, 'invalid_scope'],
    ['a refusal that says nothing', 400, {}, 'invalid_answer'],
    ['an answer without a token', 200, { token_type: 'Bearer', expires_in: 3 }, 'invalid_answer'],
    ['a token of another type', 200, granted({ token_type: 'mac' }), 'invalid_answer'],
    ['a token without an end', 200, granted({ expires_in: 0 }), 'invalid_answer'],
  ])('%s is told as one', async (_, status, body, error) => {
    issuer.on('/token', (__, ___, response) => {
      response.statusCode = status;
      return body;
    });
    const refusal = credentials().client.token(REQUEST);
    await expect(refusal).rejects.toMatchObject({ error });
    await expect(refusal).rejects.toBeInstanceOf(ExchangeRefused);
  });

  it('of a server that is down are unavailable', async () => {
    issuer.on('/token', (_, __, response) => {
      response.statusCode = 503;
      return {};
    });
    await expect(credentials().client.token(REQUEST)).rejects.toBeInstanceOf(AuthorityUnavailable);
  });
});
