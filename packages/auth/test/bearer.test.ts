import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bearerChallenge, readBearer, TokenError } from '../src/index.js';

const at = (authorization?: string, query = '') =>
  new Request(`https://labs.example/mcp${query}`, { headers: authorization === undefined ? {} : { authorization } });
const faultOf = (request: Request) => {
  try {
    return readBearer(request);
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    return [error.status, error.error];
  }
};

describe('readBearer', () => {
  it.each(['Bearer abc.def.ghi', 'bearer abc.def.ghi', 'BEARER   abc.def.ghi', ' Bearer abc.def.ghi '])('reads %j', (header) => {
    expect(readBearer(at(header))).toBe('abc.def.ghi');
  });

  it.each([
    undefined,
    '',
    '  ',
    'Basic dXNlcjpwYXNz',
    'DPoP abc',
    'Bearerabc',
    'abc.def.ghi',
  ])('takes %j for no credentials: 401 without error', (header) => {
    expect(faultOf(at(header))).toEqual([401, undefined]);
  });

  it.each([
    'Bearer',
    'Bearer a b',
    'Bearer a, Bearer b',
    'Basic x, Bearer b',
    'Bearer a,',
    'Bearer "a"',
    'Bearer \u00e9',
    'Bearer ==',
  ])('takes %j for malformed: 400 invalid_request', (header) => {
    expect(faultOf(at(header))).toEqual([400, 'invalid_request']);
  });

  it('refuses two Authorization headers, in whatever order and scheme', () => {
    const headers = new Headers([
      ['authorization', 'Bearer a'],
      ['Authorization', 'DPoP b'],
    ]);
    expect(faultOf(new Request('https://labs.example/mcp', { headers }))).toEqual([400, 'invalid_request']);
  });

  it.each([
    '?access_token=a',
    '?x=1&access_token=',
    '?access%5Ftoken=a',
  ])('refuses a token in the query %s, with or without a header', (query) => {
    expect(faultOf(at(undefined, query))).toEqual([400, 'invalid_request']);
    expect(faultOf(at('Bearer a', query))).toEqual([400, 'invalid_request']);
  });

  it('looks at every request anew: a second one without a token is refused', () => {
    expect(readBearer(at('Bearer a'))).toBe('a');
    expect(faultOf(at())).toEqual([401, undefined]);
  });
});

describe('bearerChallenge', () => {
  it('without credentials names metadata and scope, and no error', () => {
    const value = bearerChallenge({
      scope: 'launch/patient patient/hmcp:read',
      resourceMetadata: 'https://labs.example/.well-known/x',
    });
    expect(value).toBe('Bearer scope="launch/patient patient/hmcp:read", resource_metadata="https://labs.example/.well-known/x"');
  });

  it('of a missing scope names every scope the operation needs', () => {
    const value = bearerChallenge({
      error: 'insufficient_scope',
      description: 'scope missing',
      scope: 'patient/Task.c patient/Task.r',
    });
    expect(value).toBe(
      'Bearer error="insufficient_scope", error_description="scope missing", scope="patient/Task.c patient/Task.r"',
    );
  });

  it('is never empty', () => {
    expect(bearerChallenge({})).toBe('Bearer');
  });

  it('cannot be broken out of: one line of printable ASCII, quotes balanced, whatever it is given', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (description, scope) => {
        const value = bearerChallenge({ error: 'invalid_token', description, scope });
        expect(value).toMatch(/^Bearer error="invalid_token", error_description="[^"\\]*", scope="[^"\\]*"$/);
        expect(value).toMatch(/^[\x20-\x7e]*$/);
        expect(() => new Headers({ 'www-authenticate': value })).not.toThrow();
      }),
    );
  });
});
