import { EventEmitter } from 'node:events';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AuditRecord } from '@hmcp/core';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  type AuthorizationServerConfigInput,
  createAuthorizationServer,
  loadKeys,
  parseConfig,
  runAuthorizationServer,
  smartConfiguration,
} from '../src/index.js';
import { startWorld, TRIAGE, type World } from './world.js';

let world: World;
let folder: string;
beforeAll(async () => {
  world = await startWorld();
  folder = await mkdtemp(join(tmpdir(), 'hmcp-as-'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  world.auditor.broken = false;
});
afterAll(async () => {
  await world.close();
  await rm(folder, { recursive: true, force: true });
});

const minimal = (change: object = {}): AuthorizationServerConfigInput => ({
  publicUrl: 'http://127.0.0.1:9000',
  fhirServer: 'http://127.0.0.1:9001/fhir',
  state: folder,
  pseudonymKey: Buffer.alloc(32).toString('base64url'),
  people: [],
  accounts: [],
  clients: [],
  resources: [],
  ...change,
});
const audit = { append: async () => {}, close: async () => {} };

describe('discovery', () => {
  const get = async (path: string) => {
    const response = await fetch(`${world.issuer}${path}`, { headers: { origin: 'https://app.example' } });
    return { response, body: (await response.json()) as Record<string, unknown> };
  };

  it.each([
    'openid-configuration',
    'oauth-authorization-server',
    'smart-configuration',
  ])('serves %s to any origin', async (name) => {
    const { response, body } = await get(`/.well-known/${name}`);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toContain('application/json');
    expect(['*', 'https://app.example']).toContain(response.headers.get('access-control-allow-origin'));
    expect(body).toMatchObject({
      issuer: world.issuer,
      authorization_endpoint: `${world.issuer}/auth`,
      token_endpoint: `${world.issuer}/token`,
      revocation_endpoint: `${world.issuer}/token/revocation`,
      jwks_uri: `${world.issuer}/jwks`,
      code_challenge_methods_supported: ['S256'],
      response_types_supported: ['code'],
      token_endpoint_auth_methods_supported: ['private_key_jwt', 'none'],
      authorization_response_iss_parameter_supported: true,
    });
    expect(body.grant_types_supported).toEqual(smartConfiguration(world.server.config).grant_types_supported);
    expect(body.scopes_supported).toEqual(smartConfiguration(world.server.config).scopes_supported);
  });

  it('publishes an EC and an RSA key and nothing private', async () => {
    const { body } = await get('/jwks');
    const keys = body.keys as Record<string, unknown>[];
    expect(keys.map((key) => key.alg).sort()).toEqual(['ES256', 'RS256']);
    for (const key of keys) for (const secret of ['d', 'p', 'q', 'dp', 'dq', 'qi']) expect(key).not.toHaveProperty(secret);
  });
});

describe('the server', () => {
  it('answers as its issuer only', async () => {
    const status = await new Promise((resolve, reject) => {
      const { hostname, port } = new URL(world.issuer);
      request({ hostname, port, path: '/jwks', headers: { host: 'rebound.example' } }, (answer) =>
        resolve(answer.resume().statusCode),
      )
        .once('error', reject)
        .end();
    });
    expect(status).toBe(421);
  });

  it('takes no URL from forwarded headers', async () => {
    const headers = { 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'https' };
    const body = await (await fetch(`${world.issuer}/.well-known/openid-configuration`, { headers })).json();
    expect(JSON.stringify(body)).not.toContain('evil.example');
    expect(body).toMatchObject({ token_endpoint: `${world.issuer}/token` });
  });

  it('releases no token and no refusal it could not record', async () => {
    const launched = await world.launch({ patient: 0 });
    world.auditor.broken = true;
    for (const scope of ['patient/hmcp:read', 'patient/hmcp:write']) {
      const answer = await world.exchange('portal', launched.accessToken, TRIAGE, scope);
      expect(answer).toMatchObject({ status: 503, body: { error: 'temporarily_unavailable' } });
      expect(answer.body).not.toHaveProperty('access_token');
      expect(answer.headers.get('retry-after')).toBe('5');
    }
  });

  it('does not start in production', async () => {
    vi.stubEnv('NODE_ENV', 'production');
    await expect(createAuthorizationServer({ config: minimal(), audit })).rejects.toThrow('production');
  });

  it('keeps its keys in a file only its owner can read, and finds them again', async () => {
    const file = join(folder, 'deep', 'keys.json');
    const first = await loadKeys(file);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await loadKeys(file)).toEqual(first);
  });

  it.each(['', '{}', '{"keys":[]}', '{"keys":[{"kty":"EC"}]}', 'null', '[1'])('refuses the key file %j', async (text) => {
    const file = join(folder, 'bad-keys.json');
    await writeFile(file, text);
    await expect(loadKeys(file)).rejects.toThrow(TypeError);
    expect(await readFile(file, 'utf8')).toBe(text);
  });

  it('runs as a process that says its port to its parent, and ends when the parent lets go', async () => {
    const file = join(folder, 'config.json');
    await writeFile(file, JSON.stringify(minimal()));
    const said: unknown[] = [];
    const written: string[] = [];
    let exited: (code: number) => void = () => {};
    const exit = new Promise<number>((resolve) => {
      exited = resolve;
    });
    const parent = new EventEmitter();
    const host = Object.assign(parent, {
      send: (message: unknown) => said.push(message),
      exit: exited,
      stderr: { write: (text: string) => written.push(text) },
    });
    const opened: string[] = [];
    const closed = vi.fn(async () => {});
    await runAuthorizationServer(
      file,
      async (options) => ({ append: async (_: AuditRecord) => void opened.push(options.file), close: closed }),
      host,
    );
    expect(said).toEqual([{ type: 'listening', port: expect.any(Number) }]);
    parent.emit('disconnect');
    expect(await exit).toBe(0);
    expect(closed).toHaveBeenCalledOnce();
    expect(written).toEqual([]);
  });
});

describe('the configuration', () => {
  const client = {
    clientId: 'c',
    name: 'C',
    scope: 'system/*.rs',
    grants: ['client_credentials'],
    jwks: { keys: [{ kty: 'EC', kid: 'k' }] },
  };
  const account = { username: 'u', password: 'hunter2', name: 'U', fhirUser: 'Practitioner/p', patients: [] };

  it('is accepted with its defaults', () => {
    expect(parseConfig(minimal({ clients: [client], accounts: [account] }))).toMatchObject({
      accessTokenSeconds: 3600,
      exchangeSeconds: 120,
    });
  });

  it.each<[string, object]>([
    ['an unknown key', { allowInsecure: true }],
    ['an issuer with a path', { publicUrl: 'http://127.0.0.1:9000/as' }],
    ['an issuer with a trailing slash', { publicUrl: 'http://127.0.0.1:9000/' }],
    ['plain http off loopback', { publicUrl: 'http://as.example' }],
    ['a FHIR server off loopback by http', { fhirServer: 'http://ehr.example/fhir' }],
    ['a short pseudonym key', { pseudonymKey: 'short' }],
    ['exchanges longer than 300 s', { exchangeSeconds: 301 }],
    ['an account with a foreign patient', { accounts: [{ ...account, patients: ['b2'] }] }],
    ['an account named like a client', { clients: [client], accounts: [{ ...account, username: 'c' }] }],
    ['an absolute fhirUser', { accounts: [{ ...account, fhirUser: 'https://ehr.example/Practitioner/p' }] }],
    ['a client with a private key', { clients: [{ ...client, jwks: { keys: [{ kty: 'EC', kid: 'k', d: 'secret' }] } }] }],
    ['a public client that exchanges', { clients: [{ ...client, jwks: undefined, grants: ['token-exchange'] }] }],
    ['a client with a scope nobody understands', { clients: [{ ...client, scope: 'patient/Observation.dus' }] }],
    ['a launching client without redirect', { clients: [{ ...client, grants: ['authorization_code'] }] }],
    ['a client of an unknown resource', { clients: [{ ...client, resource: 'https://x.example/mcp' }] }],
    ['two clients of one name', { clients: [client, client] }],
  ])('is refused with %s', (_name, change) => {
    expect(() => parseConfig(minimal(change))).toThrow(TypeError);
  });

  it('is refused without repeating what it holds', () => {
    let message = '';
    try {
      parseConfig(minimal({ accounts: [{ ...account, fhirUser: 42, hunter3: 1 }] }));
    } catch (error) {
      message = String(error);
    }
    expect(message).toContain('accounts.0.fhirUser');
    expect(message).not.toMatch(/hunter2/);
  });
});
