import { afterEach, describe, expect, it, vi } from 'vitest';
import { protectedResourceMetadata, protectedResourceMetadataUrl, secureUrl } from '../src/index.js';

afterEach(() => {
  vi.unstubAllEnvs();
});

describe('secureUrl', () => {
  it.each([
    'https://as.example',
    'http://127.0.0.1:8080/x',
    'http://localhost',
    'http://[::1]:3000',
    'http://127.9.9.9',
    'http://127.1',
  ])('accepts %s', (value) => {
    expect(secureUrl(value, 'issuer')).toBeInstanceOf(URL);
  });

  it.each([
    'http://as.example',
    'http://127.0.0.1.evil.example',
    'http://localhost.evil.example',
    'http://notlocalhost',
    'http://10.0.0.1',
    'http://0.0.0.0',
    'http://[::ffff:10.0.0.1]',
    'https://user:pass@as.example',
    'http://127.0.0.1@evil.example',
    'https://as.example/#x',
    ' https://as.example',
    'https://as.example\n',
    'ftp://as.example',
    'file:///etc/passwd',
    'javascript:1',
    '//as.example',
    'as.example',
    '',
  ])('refuses %j and names the option, not the value', (value) => {
    expect(() => secureUrl(value, 'issuers[0].issuer')).toThrow(TypeError);
    expect(() => secureUrl(value, 'issuers[0].issuer')).toThrow('"issuers[0].issuer"');
    expect(() => secureUrl(value, 'issuers[0].issuer')).not.toThrow('evil');
  });

  it('refuses http to loopback in production', () => {
    vi.stubEnv('NODE_ENV', 'production');
    expect(() => secureUrl('http://127.0.0.1', 'issuer')).toThrow('"issuer"');
    expect(secureUrl('https://as.example', 'issuer').href).toBe('https://as.example/');
  });
});

describe('protected-resource metadata', () => {
  const options = { resource: 'https://labs.example/mcp', authorizationServers: ['https://as.example'], scopesSupported: [] };

  it('says who issues tokens, for which scopes, and that they come in the header only', () => {
    const scopesSupported = ['patient/Observation.rs', 'offline_access', 'patient/Observation.rs'];
    expect(protectedResourceMetadata({ ...options, scopesSupported })).toEqual({
      resource: 'https://labs.example/mcp',
      authorization_servers: ['https://as.example'],
      scopes_supported: ['patient/Observation.rs'],
      bearer_methods_supported: ['header'],
    });
  });

  it.each([
    ['resource', { resource: 'http://labs.example/mcp' }],
    ['authorizationServers', { authorizationServers: [] }],
    ['authorizationServers[1]', { authorizationServers: ['https://as.example', 'as'] }],
  ])('names the unusable option %s', (option, wrong) => {
    expect(() => protectedResourceMetadata({ ...options, ...wrong })).toThrow(`"${option}"`);
  });

  it.each([
    ['https://labs.example/mcp', 'https://labs.example/.well-known/oauth-protected-resource/mcp'],
    ['https://labs.example', 'https://labs.example/.well-known/oauth-protected-resource'],
    ['https://labs.example/', 'https://labs.example/.well-known/oauth-protected-resource'],
    ['http://127.0.0.1:8080/a/b', 'http://127.0.0.1:8080/.well-known/oauth-protected-resource/a/b'],
  ])('of %s is at %s', (resource, url) => {
    expect(protectedResourceMetadataUrl(resource)).toBe(url);
  });
});
