import { chmod, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { openSqliteStore } from '@hmcp/context-manager';
import { meaningOf } from '@hmcp/core';
import { exportJWK, generateKeyPair, type JWK } from 'jose';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type DeploymentDescription, readDescription } from '../src/doctor/description.js';
import { certificateAt, type Probe, readJson } from '../src/doctor/probe.js';
import { judgeCertificate } from '../src/doctor/tls.js';
import { doctorCommand } from '../src/doctor.js';
import { selfSigned } from './self-signed.js';
import { freshFolder, NOW, type, writeLog } from './terminal.js';

const ISSUER = 'https://as.example';
const FHIR = 'https://ehr.example/r4';
const RESOURCE = 'https://labs.example/mcp';
const MANAGER = 'https://cm.example';
const DAY = 86_400_000;
const JWKS = `${ISSUER}/jwks`;
const SERVER_METADATA = 'https://labs.example/.well-known/oauth-protected-resource/mcp';
const MANAGER_METADATA = `${MANAGER}/.well-known/oauth-protected-resource/mcp`;
const PUBLISHED = `${MANAGER}/.well-known/hmcp-seal-keys.json`;
const SMART = `${FHIR}/.well-known/smart-configuration`;

const publicKey = async (kid: string): Promise<JWK> => ({
  ...(await exportJWK((await generateKeyPair('ES256', { extractable: true })).publicKey)),
  kid,
  alg: 'ES256',
  use: 'sig',
});
const tokenKey = await publicKey('tokens');
const sealKey = await publicKey('seals');
const otherKey = await publicKey('other');

const manager = () => ({
  issuer: MANAGER,
  resource: `${MANAGER}/mcp`,
  clientId: 'cm',
  jwksUri: `${MANAGER}/jwks`,
  trustDomain: 'ward',
  fhirServers: [FHIR],
  tokenIssuers: [ISSUER],
});
type Server = Record<string, unknown>;
const labs = (more: Server = {}): Server => ({
  name: 'labs',
  resource: RESOURCE,
  context: 'session',
  effects: true,
  issuers: [{ issuer: ISSUER, fhirServer: FHIR }],
  managers: [manager()],
  ...more,
});

/** The whole of a sound deployment; a test plants one fault. */
interface World {
  documents: Record<string, unknown>;
  /** Origins at which nobody listens, and statuses with which somebody answers instead. */
  down: Record<string, 'nobody' | number>;
  modes: boolean;
  date: string | null;
  certificate: Awaited<ReturnType<Probe['certificate']>>;
  description: Record<string, unknown>;
}

function sound(): World {
  return {
    documents: {
      [`${ISSUER}/.well-known/oauth-authorization-server`]: { issuer: ISSUER, jwks_uri: JWKS },
      [JWKS]: { keys: [tokenKey] },
      [`${MANAGER}/jwks`]: { keys: [sealKey] },
      [PUBLISHED]: { keys: [sealKey] },
      [MANAGER_METADATA]: { resource: `${MANAGER}/mcp`, authorization_servers: [ISSUER, 'https://else.example'] },
      [SERVER_METADATA]: { resource: RESOURCE, authorization_servers: [ISSUER] },
      [SMART]: { issuer: ISSUER },
    },
    down: {},
    modes: true,
    date: new Date(NOW).toUTCString(),
    certificate: { trusted: true, validFrom: NOW - DAY, validTo: NOW + 90 * DAY },
    description: { nodeEnv: 'production', servers: [labs()] },
  };
}

interface Report {
  readonly findings: readonly { level: string; area: string; about: string; found: string; change?: string }[];
  readonly failures: number;
  readonly warnings: number;
  readonly notes: number;
}

async function examined(world: World, ...more: string[]) {
  const file = join(await freshFolder(), 'deployment.json');
  await writeFile(file, JSON.stringify(world.description));
  let [stdout, stderr] = ['', ''];
  const code = await doctorCommand(
    [file, ...more],
    {
      stdin: (async function* () {})(),
      stdout: { write: (text) => (stdout += text) },
      stderr: { write: (text) => (stderr += text) },
      env: {},
      now: () => NOW,
    },
    {
      modes: world.modes,
      fetch: async (url) => {
        const down = world.down[new URL(url).origin];
        if (down === 'nobody') throw new TypeError('fetch failed');
        if (down !== undefined) return new Response('', { status: down });
        const document = world.documents[url];
        const headers = world.date === null ? {} : { date: world.date };
        return document === undefined ? new Response('', { status: 404, headers }) : Response.json(document, { headers });
      },
      certificate: async () => world.certificate,
    },
  );
  return { code, stdout, stderr, report: (): Report => JSON.parse(stdout) as Report };
}

const servers = (more: Server) => (world: World) => {
  world.description.servers = [labs(more)];
};
const document = (url: string, value: unknown) => (world: World) => {
  world.documents[url] = value;
};
const down = (origin: string, how: 'nobody' | number) => (world: World) => {
  world.down[origin] = how;
};
/** The manager as one server describes it, with its keys. */
const withKeys = (...keys: JWK[]) => ({ ...manager(), jwksUri: undefined, keys: { keys } });
const certificate = (value: World['certificate']) => (world: World) => {
  world.certificate = value;
};
const clock = (ms: number) => (world: World) => {
  world.date = new Date(NOW + ms).toUTCString();
};

test('a sound deployment has nothing to change', async () => {
  const { code, report } = await examined(sound(), '--json');
  expect(report().findings.filter(({ level }) => level !== 'ok' && level !== 'note')).toEqual([]);
  expect([code, report().failures, report().warnings]).toEqual([0, 0, 0]);
  expect(new Set(report().findings.map(({ area }) => area))).toEqual(new Set(['environment', 'tls', 'trust', 'clock', 'mode']));
});

test.each<[string, Server, RegExp]>([
  ['a mode', { context: 'token' }, /^described as context "token", .*; not asked$/],
  ['a stricter mode', { context: 'session' }, /^described as context "session", .*; not asked$/],
  ['trust lists', {}, /^described with trust lists that are usable \(1 issuer, 1 manager\); not asked$/],
  ['trust lists without a manager', { context: 'token', managers: [] }, /\(1 issuer, 0 managers\); not asked$/],
])('%s that was only described is a note, never ok', async (_, more, found) => {
  const world = sound();
  servers(more)(world);
  const { report } = await examined(world, '--json');
  expect(report().findings.filter((one) => one.about === 'labs' && found.test(one.found))).toMatchObject([{ level: 'note' }]);
  expect(report().findings.filter(({ about, level }) => about === 'labs' && level === 'ok')).toEqual([]);
  expect(report().notes).toBe(report().findings.filter(({ level }) => level === 'note').length);
});

describe('a planted fault is found, and what to change is said', () => {
  const METADATA = `${ISSUER}/.well-known/oauth-authorization-server`;
  test.each<[string, 'failure' | 'warning', string, RegExp, (world: World) => void]>([
    ['an issuer of another name', 'failure', 'trust', /names another issuer/, document(METADATA, { issuer: `${ISSUER}/` })],
    ['an issuer without metadata', 'failure', 'trust', /publishes no metadata/, document(METADATA, undefined)],
    ['metadata of no form', 'failure', 'trust', /cannot be read/, document(METADATA, ['x'])],
    [
      'keys over http',
      'failure',
      'trust',
      /not https/,
      document(METADATA, { issuer: ISSUER, jwks_uri: 'http://as.example/jwks' }),
    ],
    ['keys that cannot be had', 'failure', 'trust', /keys cannot be had/, document(JWKS, undefined)],
    ['an empty key set', 'failure', 'trust', /none of its keys/, document(JWKS, { keys: [] })],
    [
      'a key of another algorithm',
      'failure',
      'trust',
      /none of its keys/,
      document(JWKS, { keys: [{ ...tokenKey, alg: 'HS256' }] }),
    ],
    ['a key for encryption', 'failure', 'trust', /none of its keys/, document(JWKS, { keys: [{ ...tokenKey, use: 'enc' }] })],
    ['a key without kid', 'warning', 'trust', /no kid/, document(JWKS, { keys: [tokenKey, { ...tokenKey, kid: undefined }] })],
    ['two keys of one kid', 'failure', 'trust', /share a kid/, document(JWKS, { keys: [tokenKey, tokenKey] })],
    [
      'a published private key',
      'failure',
      'trust',
      /private key is published/,
      document(JWKS, { keys: [{ ...tokenKey, d: 'AA' }] }),
    ],
    [
      'a key of no point',
      'failure',
      'trust',
      /cannot be imported/,
      document(JWKS, { keys: [tokenKey, { ...otherKey, x: otherKey.y }] }),
    ],
    [
      'an RSA key without a modulus',
      'failure',
      'trust',
      /none of its keys/,
      document(JWKS, { keys: [{ kty: 'RSA', kid: 'r', n: '', e: 'AQAB' }] }),
    ],
    [
      'a key that may not verify',
      'failure',
      'trust',
      /none of its keys/,
      document(JWKS, { keys: [{ ...tokenKey, key_ops: ['encrypt'] }] }),
    ],
    ['seal keys that cannot be had', 'failure', 'trust', /keys cannot be had/, document(`${MANAGER}/jwks`, undefined)],
    ['one key for seals and tokens', 'failure', 'trust', /also signs tokens/, document(`${MANAGER}/jwks`, { keys: [tokenKey] })],
    ['an algorithm nobody may allow', 'failure', 'trust', /"algorithms" may hold only/, servers({ algorithms: ['none'] })],
    ['a leeway beyond bounds', 'failure', 'trust', /"leewaySeconds"/, servers({ leewaySeconds: 600 })],
    ['no issuer', 'failure', 'trust', /"issuers" must name at least one/, servers({ issuers: [], managers: [] })],
    [
      'a manager of other issuers',
      'failure',
      'trust',
      /no seal of .* can fit/,
      servers({ managers: [{ ...manager(), tokenIssuers: ['https://else.example'] }] }),
    ],
    [
      'a manager of other records',
      'failure',
      'trust',
      /no seal of .* can fit/,
      servers({ managers: [{ ...manager(), fhirServers: ['https://else.example/r4'] }] }),
    ],
    [
      'a server of another name',
      'failure',
      'trust',
      /names another resource/,
      document('https://labs.example/.well-known/oauth-protected-resource/mcp', { resource: 'https://x.example' }),
    ],
    [
      'a server that sends callers elsewhere',
      'failure',
      'trust',
      /an issuer it does not trust/,
      document('https://labs.example/.well-known/oauth-protected-resource/mcp', {
        resource: RESOURCE,
        authorization_servers: ['https://else.example'],
      }),
    ],
    ['a server at another path', 'failure', 'trust', /^it answers, but not there \(404\)/, document(SERVER_METADATA, undefined)],
    ['a page in place of metadata', 'failure', 'trust', /with no metadata/, document(SERVER_METADATA, 'welcome')],
    ['a server that is not up', 'warning', 'trust', /^it does not answer/, down('https://labs.example', 'nobody')],
    ['a server behind a gateway that waits', 'warning', 'trust', /^it does not answer/, down('https://labs.example', 502)],
    ['a manager that is not up', 'warning', 'trust', /^it does not answer, so what/, down(MANAGER, 'nobody')],
    [
      'a manager at another path',
      'failure',
      'trust',
      /^it answers, but not there \(404\)/,
      document(MANAGER_METADATA, undefined),
    ],
    [
      'a manager of another name',
      'failure',
      'trust',
      /names another resource/,
      document(MANAGER_METADATA, { resource: 'https://cm.example', authorization_servers: [ISSUER] }),
    ],
    [
      'a manager of other people',
      'failure',
      'trust',
      /none of the issuers whose people/,
      document(MANAGER_METADATA, { resource: `${MANAGER}/mcp`, authorization_servers: ['https://else.example'] }),
    ],
    [
      'keys of seals that are not those published',
      'failure',
      'trust',
      /none of the described keys is one it publishes/,
      servers({ managers: [withKeys(otherKey)] }),
    ],
    [
      'a published key that is not described',
      'warning',
      'trust',
      /a key it publishes is not described/,
      (world) => {
        servers({ managers: [withKeys(sealKey)] })(world);
        document(PUBLISHED, { keys: [sealKey, otherKey] })(world);
      },
    ],
    [
      'a described key that is not published',
      'warning',
      'trust',
      /a described key is not one it publishes/,
      servers({ managers: [withKeys(sealKey, otherKey)] }),
    ],
    [
      'described keys of a manager that publishes none',
      'warning',
      'trust',
      /cannot be compared/,
      (world) => {
        servers({ managers: [withKeys(sealKey)] })(world);
        document(PUBLISHED, undefined)(world);
      },
    ],
    ['a FHIR base that is not up', 'warning', 'trust', /^it does not answer, so whose/, down('https://ehr.example', 'nobody')],
    ['a FHIR base at another path', 'failure', 'trust', /no FHIR API is at this address/, document(SMART, undefined)],
    [
      'a FHIR base of another issuer',
      'failure',
      'trust',
      /names another issuer/,
      document(SMART, { issuer: 'https://else.example' }),
    ],
    [
      'a second issuer for one FHIR base, which it does not name',
      'warning',
      'trust',
      /does not name/,
      (world) => {
        world.documents['https://else.example/.well-known/oauth-authorization-server'] = { issuer: 'https://else.example' };
        servers({
          issuers: [
            { issuer: ISSUER, fhirServer: FHIR },
            { issuer: 'https://else.example', fhirServer: FHIR },
          ],
        })(world);
      },
    ],
    ['a clock 8 s ahead', 'warning', 'clock', /ahead of/, clock(8000)],
    ['a clock 8 s behind', 'warning', 'clock', /behind/, clock(-8000)],
    ['a clock 8 s ahead, by which seals are made', 'failure', 'clock', /seals are refused beyond 2 s/, clock(8000)],
    ['a clock 40 s ahead', 'failure', 'clock', /refused beyond 30 s/, clock(40_000)],
    ['a clock 40 s behind', 'failure', 'clock', /refused beyond 30 s/, clock(-40_000)],
    [
      'a clock beyond a small leeway',
      'failure',
      'clock',
      /refused beyond 2 s/,
      (world) => {
        servers({ leewaySeconds: 2 })(world);
        clock(4000)(world);
      },
    ],
    [
      'an issuer that tells no time',
      'warning',
      'clock',
      /no usable Date/,
      (world) => {
        world.date = null;
      },
    ],
    ['http', 'failure', 'tls', /not https/, servers({ resource: 'http://labs.example/mcp' })],
    [
      'http to loopback in production',
      'failure',
      'tls',
      /with NODE_ENV=production/,
      servers({ resource: 'http://127.0.0.1:1/mcp' }),
    ],
    ['no handshake', 'failure', 'tls', /no TLS handshake/, certificate(undefined)],
    ['an expired certificate', 'failure', 'tls', /expired/, certificate({ trusted: false, validFrom: 0, validTo: NOW - 1 })],
    [
      'one of tomorrow',
      'failure',
      'tls',
      /not valid before/,
      certificate({ trusted: true, validFrom: NOW + 1, validTo: NOW + DAY }),
    ],
    [
      'one nobody trusts',
      'failure',
      'tls',
      /does not trust/,
      certificate({ trusted: false, validFrom: 0, validTo: NOW + 90 * DAY }),
    ],
    ['one that expires soon', 'warning', 'tls', /expires on/, certificate({ trusted: true, validFrom: 0, validTo: NOW + DAY })],
    ['one of no date', 'failure', 'tls', /expired/, certificate({ trusted: true, validFrom: Number.NaN, validTo: Number.NaN })],
    ['a session nobody can open', 'failure', 'mode', /every request about a patient is 42801/, servers({ managers: [] })],
    ['effects without a manager', 'warning', 'mode', /fence: none/, servers({ context: 'token', managers: [] })],
    [
      'a development environment',
      'warning',
      'environment',
      /not production/,
      (world) => {
        world.description.nodeEnv = 'development';
      },
    ],
  ])('%s', async (_, level, area, found, plant) => {
    const world = sound();
    plant(world);
    const { code, report } = await examined(world, '--json');
    const caught = report().findings.filter((one) => one.level === level && one.area === area && found.test(one.found));
    expect(caught).not.toEqual([]);
    for (const { change } of caught) expect(change).toMatch(/\w/);
    expect(code).toBe(level === 'failure' ? 1 : report().failures > 0 ? 1 : 0);
  });

  test('at each server: what is sound at one that trusts the same issuer and manager hides nothing of another', async () => {
    const world = sound();
    world.description.servers = [
      labs({ algorithms: ['EdDSA'], managers: [{ ...manager(), jwksUri: undefined, keys: { keys: [{ kty: 'oct' }] } }] }),
      labs({ name: 'orders' }),
    ];
    const { report } = await examined(world, '--json');
    const failed = report().findings.filter(({ level }) => level === 'failure');
    expect(failed.map(({ about, found }) => `${about}: ${found}`)).toEqual([
      `${ISSUER}: none of its keys has a kid and can be used with EdDSA`,
      `seals of ${MANAGER}: none of its keys has a kid and can be used with ES256, EdDSA`,
      expect.stringContaining('labs: "managers[0].keys.keys[0]" is of an algorithm that seals do not use'),
    ]);
  });

  test('a document that does not end is not read to its end', async () => {
    let sent = 0;
    const endless = async () =>
      new Response(
        new ReadableStream({
          pull: (controller) => {
            sent += 1;
            controller.enqueue(new Uint8Array(1 << 16).fill(32));
          },
        }),
      );
    expect(await readJson('https://endless.example/', { fetch: endless, now: () => NOW })).toBeUndefined();
    expect(sent).toBeLessThan(20);
  });

  test('in the words of the refusal it would come to', async () => {
    const world = sound();
    servers({ managers: [] })(world);
    const { stdout } = await examined(world);
    expect(stdout).toContain(`change: ${meaningOf(42801, 'seal').mend}`);
  });
});

test('what the seals of a manager are verified with is told apart from what cannot be imported', async () => {
  const world = sound();
  servers({ managers: [withKeys({ ...sealKey, x: 'AAAA' })] })(world);
  const { code, report } = await examined(world, '--json');
  const about = report().findings.filter((one) => one.about === `seals of ${MANAGER}`);
  expect(about.map(({ level, found }) => [level, found])).toEqual([
    ['failure', 'a key cannot be imported: nothing verifies with it'],
    ['failure', 'none of its keys has a kid and can be used with ES256, EdDSA'],
  ]);
  expect(code).toBe(1);
});

test.each([
  ['d'],
  ['p'],
  ['q'],
  ['dp'],
  ['dq'],
  ['qi'],
  ['oth'],
  ['k'],
])('a set with the private member %s is a failure, and its value is not told', async (member) => {
  const world = sound();
  servers({ managers: [withKeys(sealKey, { ...otherKey, [member]: 'geheim' })] })(world);
  const { stdout, report } = await examined(world, '--json');
  expect(report().findings.filter(({ found }) => found === 'a private key is published')).toMatchObject([{ level: 'failure' }]);
  expect(stdout).not.toContain('geheim');
});

test('a FHIR base that says nothing of its issuer is a note', async () => {
  for (const plant of [
    document(SMART, { token_endpoint: `${ISSUER}/token` }),
    (world: World) => {
      document(SMART, undefined)(world);
      document(`${FHIR}/metadata`, { resourceType: 'CapabilityStatement' })(world);
    },
  ]) {
    const world = sound();
    plant(world);
    const { code, report } = await examined(world, '--json');
    expect(report().findings.filter(({ about, found }) => about === FHIR && /was not told/.test(found))).toMatchObject([
      { level: 'note' },
    ]);
    expect(code).toBe(0);
  }
});

test('a server over pipes is not asked for where nobody listens', async () => {
  const world = sound();
  servers({ stdio: true })(world);
  down('https://labs.example', 'nobody')(world);
  const { code, report } = await examined(world, '--json');
  expect([code, report().warnings]).toEqual([0, 0]);
  expect(report().findings.filter(({ about }) => about.startsWith('https://labs.example'))).toEqual([]);
});

describe('what servers say of one manager', () => {
  const OTHER_FHIR = 'https://other.example/r4';
  const described = (one: Server, other: Server, more: Server = {}) => {
    const world = sound();
    world.description.servers = [
      labs({ managers: [{ ...withKeys(sealKey), ...one }] }),
      labs({ name: 'orders', ...more, managers: [other] }),
    ];
    return world;
  };
  const failed = (report: Report) => report.findings.filter(({ level }) => level === 'failure');
  const same = () => withKeys(sealKey) as Server;

  test('is the same, and passes', async () => {
    const { code } = await examined(described({}, same()), '--json');
    expect(code).toBe(0);
  });

  test.each<[string, Server]>([
    ['trustDomain', { trustDomain: 'ward-2' }],
    ['issuer', { issuer: 'https://cm-2.example' }],
    ['clientId', { clientId: 'cm-2' }],
    ['resource', { resource: `${MANAGER}/cm` }],
    ['fhirServers', { fhirServers: [OTHER_FHIR] }],
    ['fhirServers', { fhirServers: [FHIR, OTHER_FHIR] }],
    ['keys', { keys: { keys: [otherKey] } }],
    ['keys', { keys: { keys: [sealKey, otherKey] } }],
  ])('with different "%s" is a failure that names both', async (member, more) => {
    const { code, report } = await examined(described({}, { ...same(), ...more }), '--json');
    const caught = failed(report()).filter(({ found }) => found.includes(`with different "${member}"`));
    expect(caught).toMatchObject([{ about: 'labs, orders', change: expect.stringContaining(member) }]);
    expect(code).toBe(1);
  });

  test('may leave out patients a server does not serve, and keys in another order', async () => {
    const world = described(
      { fhirServers: [FHIR, OTHER_FHIR], keys: { keys: [sealKey, otherKey] } },
      { ...same(), keys: { keys: [otherKey, { ...sealKey, use: undefined }] } },
    );
    const [first] = world.description.servers as Server[];
    const issuers = [FHIR, OTHER_FHIR].map((fhirServer) => ({ issuer: ISSUER, fhirServer }));
    world.description.servers = [{ ...first, issuers }, ...(world.description.servers as Server[]).slice(1)];
    const { report } = await examined(world, '--json');
    expect(failed(report()).filter(({ found }) => found.includes('with different'))).toEqual([]);
  });

  test.each<[string, Server, RegExp]>([
    ['another trust domain', { trustDomain: 'ward-2' }, /another "trustDomain" .*40903/],
    ['another issuer', { issuer: 'https://cm-2.example' }, /another "issuer" .*40903/],
    ['another client', { clientId: 'cm-2' }, /another "clientId" .*messages of a switch/],
    ['another address', { resource: `${MANAGER}/cm` }, /another "resource" .*no session/],
    ['patients it does not open', { fhirServers: [FHIR, OTHER_FHIR] }, /another "fhirServers"/],
    ['patients it opens left out', { fhirServers: [OTHER_FHIR] }, /another "fhirServers"/],
    ['other keys', { keys: { keys: [otherKey] } }, /none of the described keys is one .* signs with/],
  ])('is compared with that manager, where it is described: %s', async (_, more, found) => {
    const world = described({}, { ...same(), ...more });
    world.description.managers = [same()];
    const { code, report } = await examined(world, '--json');
    const caught = failed(report()).filter((one) => found.test(one.found));
    expect(caught).toMatchObject([{ about: 'orders' }]);
    expect(code).toBe(1);
    const sound = report().findings.filter((one) => one.found.endsWith('as that manager is configured'));
    expect(sound).toMatchObject([{ level: 'ok', about: 'labs', found: expect.stringMatching(/^its description of /) }]);
  });
});

test('a manager that is described itself is asked, though no server trusts it', async () => {
  const world = sound();
  world.description.servers = [labs({ context: 'token', effects: false, managers: [] })];
  world.description.managers = [withKeys({ ...sealKey, d: 'geheim' })];
  down(MANAGER, 'nobody')(world);
  const { code, report } = await examined(world, '--json');
  const told = report().findings.filter(({ about, level }) => about.includes(MANAGER) && level !== 'ok');
  expect(told.map(({ level, about, found }) => [level, about, found.slice(0, 31)])).toEqual([
    ['failure', `seals of ${MANAGER}`, 'a private key is published'],
    ['failure', `seals of ${MANAGER}`, 'none of its keys has a kid and '],
    ['warning', `${MANAGER}/mcp`, 'it does not answer, so what it '],
  ]);
  expect(code).toBe(1);
});

describe('files', () => {
  async function files() {
    const folder = await freshFolder();
    const secret = join(folder, 'labs.json');
    await writeFile(secret, '{"pseudonymKey":"geheim"}', { mode: 0o600 });
    const audit = await writeLog(folder, 'labs', [[0, { intent: 'i-1' }]]);
    const store = join(folder, 'manager.sqlite');
    await (await openSqliteStore({ file: store, by: MANAGER })).close();
    const world = sound();
    world.description = { ...world.description, servers: [labs({ audit })], stores: [store], secrets: [secret] };
    return { folder, secret, audit, store, world };
  }
  const looked = ({ findings }: Report) => findings.filter(({ area }) => area === 'file');

  test('that keep others out pass, and are told a folder at a time', async () => {
    const { folder, world } = await files();
    const { code, stdout, report } = await examined(world, '--json');
    expect(looked(report()).map(({ level, about, found }) => [level, about, found])).toEqual([
      ['ok', folder, '2 files in it, each with a mode that keeps others out'],
      ['ok', folder, 'mode 0700: nobody else can change what is in it'],
      ['ok', join(folder, 'audit'), '1 file in it, each with a mode that keeps others out'],
      ['ok', join(folder, 'audit'), 'mode 0700: nobody else can change what is in it'],
    ]);
    expect([code, stdout]).toEqual([0, expect.not.stringContaining('geheim')]);
  });

  test.each<[string, 'failure' | 'warning', 'secret' | 'audit' | 'store' | 'folder', number, RegExp]>([
    ['a secret its group can read', 'failure', 'secret', 0o640, /^mode 0640: others can read the secrets/],
    ['a secret everybody can read', 'failure', 'secret', 0o604, /^mode 0604: others can read the secrets/],
    ['a secret others can write', 'failure', 'secret', 0o622, /^mode 0622: others can write it/],
    ['a store everybody can read', 'failure', 'store', 0o644, /whose sessions/],
    ['a log everybody can read', 'warning', 'audit', 0o644, /everybody on this machine can read the audit/],
    ['a log others can write', 'failure', 'audit', 0o660, /others can write it/],
    ['a folder its group can write', 'failure', 'folder', 0o770, /^mode 0770: others can replace/],
    ['a folder everybody can write', 'failure', 'folder', 0o1777, /^mode 1777: others can replace/],
  ])('%s: %s', async (_, level, which, mode, found) => {
    const at = await files();
    await chmod(at[which], mode);
    const { code, report } = await examined(at.world, '--json');
    expect(looked(report()).filter((one) => one.level !== 'ok')).toMatchObject([
      { level, about: at[which], found: expect.stringMatching(found), change: expect.stringMatching(/chmod/) },
    ]);
    expect(code).toBe(level === 'failure' ? 1 : 0);
  });

  test('a log that its group can read is for those who may', async () => {
    const at = await files();
    await chmod(at.audit, 0o640);
    expect((await examined(at.world)).code).toBe(0);
  });

  test.each<[string, RegExp, (at: Awaited<ReturnType<typeof files>>) => Promise<unknown>]>([
    ['is missing', /^it is missing/, ({ secret }) => rm(secret)],
    ['is a folder', /^it is a folder/, ({ secret }) => rm(secret).then(() => mkdir(secret))],
    ['leads nowhere', /^it is missing/, ({ secret, folder }) => rm(secret).then(() => symlink(join(folder, 'none'), secret))],
  ])('a secret that %s is a failure', async (_, found, plant) => {
    const at = await files();
    await plant(at);
    const { code, report } = await examined(at.world, '--json');
    expect(looked(report()).filter(({ level }) => level === 'failure')).toMatchObject([
      { about: at.secret, found: expect.stringMatching(found) },
    ]);
    expect(code).toBe(1);
  });

  test('where there are no modes, that is said, and what is missing is still found', async () => {
    const at = await files();
    at.world.modes = false;
    await chmod(at.secret, 0o644);
    expect(looked((await examined(at.world, '--json')).report())).toEqual([
      { level: 'note', area: 'file', about: 'modes', found: 'not looked at: this system has no POSIX modes' },
    ]);
    await rm(at.secret);
    expect((await examined(at.world)).code).toBe(1);
  });
});

describe('stores', () => {
  async function stores() {
    const folder = await freshFolder();
    const audit = await writeLog(folder, 'labs', [[0, { intent: 'i-1' }]]);
    const store = join(folder, 'manager.sqlite');
    await (await openSqliteStore({ file: store, by: MANAGER })).close();
    const world = sound();
    world.description = { ...world.description, servers: [labs({ audit })], stores: [store] };
    return { folder, audit, store, world };
  }

  test('that are sound pass, and nothing is left beside them', async () => {
    const { folder, audit, world } = await stores();
    // Beside a store that was read SQLite keeps two files of its own, at the latest until the process ends.
    const listed = async (path: string) => (await readdir(path)).filter((name) => !/\.sqlite-(shm|wal)$/.test(name));
    const seen = () => Promise.all([readFile(audit), listed(folder), listed(join(folder, 'audit'))]);
    const before = await seen();
    const { report, code } = await examined(world, '--json');
    expect(report().findings.filter(({ level }) => level !== 'ok' && level !== 'note')).toEqual([]);
    expect(report().findings.filter(({ area }) => area === 'store')).toHaveLength(7);
    expect(code).toBe(0);
    expect(await seen()).toEqual(before);
  });

  test('that one process writes are left alone', async () => {
    const { store, world } = await stores();
    const open = await openSqliteStore({ file: store, by: MANAGER });
    onTestFinished(() => open.close());
    const { report } = await examined(world, '--json');
    expect(report().findings.find(({ about, found }) => about === store && /holds its lock/.test(found))?.level).toBe('ok');
  });

  test('that are not there yet are no fault', async () => {
    const { folder, world } = await stores();
    world.description = {
      ...world.description,
      servers: [labs({ audit: join(folder, 'new.jsonl') })],
      stores: [join(folder, 'new.sqlite')],
    };
    expect((await examined(world)).code).toBe(0);
  });

  test.each<[string, RegExp, (at: Awaited<ReturnType<typeof stores>>) => Promise<unknown> | undefined]>([
    [
      'a changed audit log',
      /not what was written \(line 3\)/,
      async ({ audit }) => writeFile(audit, (await readFile(audit, 'utf8')).replace('i-1', 'i-2')),
    ],
    ['a log that is no log', /not what was written|cannot be read/, ({ audit }) => writeFile(audit, 'not a log\n')],
    [
      'a changed store',
      /not what was written/,
      async ({ store }) => {
        const bytes = await readFile(store);
        bytes.write('audit.stoq', bytes.lastIndexOf('audit.stop'));
        await writeFile(store, bytes);
      },
    ],
    ['a store that is no database', /no SQLite database/, ({ store }) => writeFile(store, 'x'.repeat(100))],
    [
      'a folder in place of a log',
      /cannot be written/,
      async (at) => {
        const audit = join(at.folder, 'folder.jsonl');
        await mkdir(audit);
        at.world.description.servers = [labs({ audit })];
      },
    ],
    [
      'a folder that is missing',
      /folder is missing/,
      (at) => {
        at.world.description.stores = [join(at.folder, 'nowhere', 'manager.sqlite')];
        return undefined;
      },
    ],
  ])('%s is found', async (_, found, plant) => {
    const at = await stores();
    await plant(at);
    const { code, report } = await examined(at.world, '--json');
    const caught = report().findings.filter((one) => one.level === 'failure' && one.area === 'store');
    expect(caught.map((one) => one.found).join('\n')).toMatch(found);
    expect(code).toBe(1);
  });

  test('a journal that is not WAL is told', async () => {
    const { store, world } = await stores();
    const bytes = await readFile(store);
    bytes.writeUInt16BE(0x0101, 18);
    await writeFile(store, bytes);
    const { report } = await examined(world, '--json');
    expect(report().findings.find(({ level, found }) => level === 'warning' && /not WAL/.test(found))).toBeDefined();
  });
});

describe('a certificate', () => {
  async function listening(validTo: Date): Promise<URL> {
    const server = createServer(selfSigned(new Date(NOW - DAY), validTo));
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    onTestFinished(() => {
      server.close();
    });
    return new URL(`https://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  }

  test.each([
    ['that nobody signed is not trusted', NOW + 90 * DAY, /does not trust/],
    ['that ran out is told so', NOW - 1000, /expired on 2026-02-03/],
  ])('%s', async (_, validTo, found) => {
    const url = await listening(new Date(validTo));
    const seen = await certificateAt(url);
    expect(judgeCertificate(url.origin, seen, NOW)).toMatchObject({ level: 'failure', found: expect.stringMatching(found) });
  });

  test('of somebody who sends a byte now and then is not waited for', async () => {
    const server = createTcpServer((socket) => {
      const drip = setInterval(() => socket.write(Uint8Array.of(0)), 5);
      socket.write(Uint8Array.of(0x16, 3, 3, 0x3f, 0xff));
      socket.on('error', () => undefined).on('close', () => clearInterval(drip));
    });
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    onTestFinished(() => {
      server.close();
    });
    const { port } = server.address() as AddressInfo;
    expect(await certificateAt(new URL(`https://127.0.0.1:${port}/`), 60)).toBeUndefined();
  });

  test('of somebody who is not there is none', async () => {
    expect(await certificateAt(new URL('https://127.0.0.1:1/'))).toBeUndefined();
  });
});

describe('hmcp doctor', () => {
  test('tells people what to change, and how many', async () => {
    const world = sound();
    document(JWKS, { keys: [{ ...tokenKey, d: 'AA' }, otherKey] })(world);
    const { code, stdout, stderr } = await examined(world);
    expect([code, stderr]).toEqual([1, '']);
    expect(stdout).toMatch(/^FAILURE {2}trust {7}https:\/\/as\.example: .*\n {9}change: take it out/m);
    expect(stdout).toMatch(/: 1 failure, 0 warnings, 3 notes\n$/);
  });

  test.each([
    ['no JSON', '{', /no JSON/],
    ['no server', '{"servers":[]}', /"servers" is not usable/],
    ['no member for servers', '{}', /^hmcp doctor: "servers" is missing\n$/],
    ['null for servers', '{"servers":null}', /"servers" is not usable \(invalid_type\)/],
    ['nothing but null', 'null', /"the file" is not usable/],
    [
      'a server without some members',
      JSON.stringify({ servers: [{ name: 'labs', issuers: [{ issuer: 'https://as.example' }] }] }),
      /^hmcp doctor: "servers\.0\.resource" is missing\nhmcp doctor: "servers\.0\.issuers\.0\.fhirServer" is missing\n$/,
    ],
    [
      'a member nobody looks at',
      JSON.stringify({ servers: [labs({ insecure: true })] }),
      /"servers\.0" has a member .*: insecure/,
    ],
    [
      'an address that is none',
      JSON.stringify({ servers: [labs({ resource: 'labs' })] }),
      /"servers\.0\.resource" is not usable/,
    ],
    [
      'a password in an address, which it would tell',
      JSON.stringify({ servers: [labs({ resource: 'https://labs:geheim@labs.example/mcp' })] }),
      /^(?!.*geheim).*"servers\.0\.resource" is not usable/,
    ],
  ])('a description with %s is not half read', async (_, text, expected) => {
    const file = join(await freshFolder(), 'deployment.json');
    await writeFile(file, text);
    expect(await type(['doctor', file])).toMatchObject({ code: 3, stdout: '', stderr: expect.stringMatching(expected) });
  });

  test('a description, or a world, that is not there cannot be examined', async () => {
    const folder = await freshFolder();
    expect(await type(['doctor', join(folder, 'none.json')])).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('ENOENT'),
    });
    expect(await type(['doctor', '--state', folder])).toMatchObject({ code: 3, stderr: expect.stringContaining('hmcp dev') });
  });

  test.each([[['a', 'b']], [['a', '--state', 'b']], [['--nonsense']]])('refuses %j', async (argv) => {
    expect(await type(['doctor', ...argv])).toMatchObject({ code: 64, stdout: '' });
  });

  test('a development world is described by its own facts', async () => {
    const state = await freshFolder();
    await writeFile(
      join(state, 'world.json'),
      JSON.stringify({
        issuer: 'http://127.0.0.1:1',
        fhirServer: 'http://127.0.0.1:1/fhir',
        parties: [
          { name: 'fhir', url: 'http://127.0.0.1:1/fhir', resource: 'http://127.0.0.1:1/fhir' },
          { name: 'orders', url: 'http://127.0.0.1:1/mcp', resource: 'http://127.0.0.1:1/mcp' },
        ],
        accounts: [{ username: 'u', password: 'p' }],
        client: { clientId: 'c', redirectUri: 'http://127.0.0.1:1/c', scope: 's', keyFile: 'k' },
        manager: {
          resource: 'http://127.0.0.1:1/cm',
          participants: [],
          store: join(state, 'm.sqlite'),
          trusted: {
            ...manager(),
            issuer: 'http://127.0.0.1:1',
            resource: 'http://127.0.0.1:1/cm',
            jwksUri: undefined,
            keys: { keys: [sealKey] },
            fhirServers: ['http://127.0.0.1:1/fhir'],
            tokenIssuers: ['http://127.0.0.1:1'],
          },
        },
      }),
    );
    const { code, stdout } = await type(['doctor', '--state', state]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/FAILURE {2}trust {7}http:\/\/127\.0\.0\.1:1: it does not answer/);
    expect(stdout).toMatch(/note {5}mode {8}orders: described as context "token", .*; not asked/);
  });

  test('the example of its help is read', async () => {
    const { stdout } = await type(['doctor', '--help']);
    expect(stdout).toMatch(/Exit codes: 0 .*\s64 /s);
    const members = [...stdout.matchAll(/"(\w+)"/g)].map(([, name]) => String(name));
    const file = join(await freshFolder(), 'd.json');
    await writeFile(file, JSON.stringify(sound().description));
    const read = (await readDescription(file)) as { description: DeploymentDescription };
    const [server] = read.description.servers;
    for (const name of [...Object.keys(read.description), ...Object.keys(server ?? {})]) expect(members).toContain(name);
  });
});
