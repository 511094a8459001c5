import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { protectedResourceMetadataUrl, smartClient } from '@hmcp/auth';
import { signIn } from '@hmcp/authorization-server';
import { patientSummaries, shippedRecords } from '@hmcp/clinic';
import type { JWK } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type DevWorld, startDev, urlOf } from './support/dev-world.js';
import { everybody } from './support/people.js';
import { descendants, hasProcessTable, survivors } from './support/processes.js';
import { freshFolder, HMCP, hmcp, ROOT, run, start } from './support/program.js';

const PARTY = join(ROOT, 'packages/cli/dist/party.js');
const UUID = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/;

async function keysOf({ ready }: DevWorld): Promise<unknown[]> {
  const files = [ready.signingKeys, ready.client.keyFile, join(ready.state, 'keys/labs.jwks.json')];
  const published = fetch(`${ready.issuer}/jwks`).then((response) => response.json());
  return Promise.all([published, ...files.map(async (file) => JSON.parse(await readFile(file, 'utf8')) as unknown)]);
}

/** The two people the first account picks from, in the order of its list. */
function listed() {
  return patientSummaries(shippedRecords())
    .filter(({ name }) => /^(Adalinde|Beatrisa) /.test(name))
    .sort((one, other) => one.name.localeCompare(other.name));
}

describe('a development world', () => {
  let folder: string;
  let state: string;
  let world: DevWorld;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hmcp-whole-'));
    // What a shell would take apart.
    state = join(folder, "a person's state; $HOME");
    world = await startDev({ state });
  });
  afterAll(async () => {
    await world?.stop();
    await rm(folder, { recursive: true, force: true });
  });
  const call = (...argv: string[]) => hmcp('call', ...argv, '--state', state);

  it('prints one line: every URL, resource identifier, account, client and key file', async () => {
    const { ready, program } = world;
    expect(program.said.stdout.trimEnd().split('\n')).toHaveLength(1);
    expect(ready.parties.map(({ name }) => name)).toEqual([
      'authorization-server',
      'fhir',
      'context-manager',
      'portal',
      'triage',
      'labs',
      'medications',
      'orders',
    ]);
    for (const name of ['context-manager', 'triage', 'labs', 'medications', 'orders']) {
      const resource = ready.parties.find((party) => party.name === name)?.resource ?? '';
      const metadata = await fetch(protectedResourceMetadataUrl(resource));
      expect(await metadata.json()).toMatchObject({ resource, authorization_servers: [ready.issuer] });
    }
    const described = await fetch(`${ready.fhirServer}/.well-known/smart-configuration`);
    expect(await described.json()).toMatchObject({ issuer: ready.issuer });
    expect((await fetch(ready.portal)).status).toBe(200);
    for (const { username, password, name } of ready.accounts)
      for (const part of [username, password, name]) expect(part).not.toBe('');
    for (const file of [ready.signingKeys, ready.client.keyFile]) expect((await stat(file)).mode & 0o077).toBe(0);
    for (const file of ready.audit) expect((await stat(file)).isFile()).toBe(true);
  });

  it('keeps everything in its state folder for its owner alone', async () => {
    const modes = async (path: string) => (await stat(path)).mode & 0o777;
    expect(await modes(state)).toBe(0o700);
    const inside = await readdir(state, { recursive: true, withFileTypes: true });
    expect(inside.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['keys', 'pseudonym.txt', 'labs.jwks.json', 'labs.json', 'labs.jsonl', 'world.json']),
    );
    for (const one of inside) {
      const path = join(one.parentPath, one.name);
      expect([path, await modes(path)]).toEqual([path, one.isDirectory() ? 0o700 : 0o600]);
    }
  });

  it('is sound to the doctor, which finds what is changed in it', async () => {
    const doctor = async () => {
      const { code, stdout, stderr } = await hmcp('doctor', '--json', '--state', state);
      expect(stderr).toBe('');
      const { findings } = JSON.parse(stdout) as { findings: { level: string; about: string; found: string }[] };
      const faults = findings.filter(({ level }) => level === 'failure' || level === 'warning');
      return { code, faults: faults.map(({ level, about, found }) => `${level} ${about}: ${found}`) };
    };
    expect(await doctor()).toEqual({ code: 0, faults: [] });

    const [config, key] = [join(state, 'config/labs.json'), join(state, 'keys/labs.jwks.json')];
    const before = await readFile(config, 'utf8');
    await writeFile(config, before.replace('"hmcp-development"', '"else"'));
    await chmod(key, 0o644);
    try {
      expect(await doctor()).toEqual({
        code: 1,
        faults: [
          expect.stringMatching(/^failure labs: its manager \S+ is not described as that manager is: another "trustDomain"/),
          `failure ${key}: mode 0644: others can read the secrets in it`,
        ],
      });
    } finally {
      await writeFile(config, before);
      await chmod(key, 0o600);
    }
  });

  it('prints a call that works as it is pasted into a shell', async () => {
    const { code, stdout, stderr } = await run([world.ready.call], { shell: true, env: { npm_config_loglevel: 'silent' } });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const { results } = JSON.parse(stdout) as { results: { resourceType: string }[] };
    expect(new Set(results.map(({ resourceType }) => resourceType))).toEqual(new Set(['Observation']));
  });

  it('answers a refused call with its code on stderr and nothing else, exit 1, and explains it hop by hop', async () => {
    const other = shippedRecords().ofType('Patient')[1]?.id ?? '';
    const refused = await call('labs', 'list-results', JSON.stringify({ patientId: other }));
    expect({ code: refused.code, stdout: refused.stdout }).toEqual({ code: 1, stdout: '' });
    expect(refused.stderr).toMatch(/^40903 patient_mismatch, refused by \S+ \(hop 1\), check "argument": [^\n]+\.\n[^\n]+\n$/);
    for (const anybody of everybody(shippedRecords())) expect(refused.stderr).not.toMatch(anybody);

    const intent = UUID.exec(refused.stderr)?.[0] ?? '';
    const explained = await hmcp('explain', intent, '--state', state);
    expect({ code: explained.code, stderr: explained.stderr }).toEqual({ code: 0, stderr: '' });
    expect(explained.stdout).toMatch(/labs +hop 1 +refused list-results .*40903 patient_mismatch · check "argument"/);
    for (const anybody of everybody(shippedRecords())) expect(explained.stdout).not.toMatch(anybody);
  });

  it('says of an agent that is not at its address that it does not answer there, exit 1', async () => {
    const file = join(state, 'world.json');
    const before = await readFile(file, 'utf8');
    const facts = JSON.parse(before) as DevWorld['ready'];
    const parties = facts.parties.map((party) =>
      party.name === 'labs' ? { ...party, resource: `${party.resource}/mpc` } : party,
    );
    await writeFile(file, JSON.stringify({ ...facts, parties }));
    try {
      const { code, stdout, stderr } = await call('labs', 'list-results');
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toMatch(/^hmcp call: the agent's server does not answer at http:\S+\/mpc: 404; see where it listens\n$/);
    } finally {
      await writeFile(file, before);
    }
  });

  it('says a refusal in one JSON line with --json', async () => {
    const { code, stdout } = await call('labs', 'rebuild-index', '--json');
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ type: 'refused', agent: 'labs', code: 40303, check: 'operation', hop: 1 });
  });

  it.each([
    ['an unknown agent', ['nobody', 'list-results'], 64, /^hmcp call: the agents are triage, labs, medications, orders; /],
    ['a server that is no agent', ['fhir', 'read'], 64, /^hmcp call: the agents are triage, labs, medications, orders; /],
    [
      'an unknown account',
      ['labs', 'list-results', '--account', 'x'],
      64,
      /^hmcp call: the accounts are dr-okafor, visiting-nurse; /,
    ],
    ['a place in the list that is none', ['labs', 'list-results', '--pick', '0'], 64, /^hmcp call: "--pick" takes a place/],
    [
      'a place beyond the list',
      ['labs', 'list-results', '--pick', '99'],
      1,
      /^hmcp call: .* no place 99 in the list of patients, which shows \d+; "hmcp patients" shows it\n$/,
    ],
    ['an unknown tool', ['labs', 'no-such-tool'], 1, /^40303 operation_undeclared, /],
    ['arguments that are no JSON', ['labs', 'list-results', '{'], 64, /^hmcp call: the arguments are no JSON object; /],
    [
      'arguments of another shape',
      ['labs', 'list-results', '{"category":7}'],
      1,
      /^hmcp call: "list-results" was answered with an error/,
    ],
    ['no tool', ['labs'], 64, /^hmcp call: name an agent, a tool /],
  ])('answers %s with a sentence and an exit code', async (_, argv, code, says) => {
    const answer = await call(...argv);
    expect(answer).toMatchObject({ code, stdout: '', stderr: expect.stringMatching(says) });
    expect(answer.stderr).not.toMatch(/failed \(|^ {4}at /m);
  });

  it('serves a call of every agent, for each account', async () => {
    for (const { username } of world.ready.accounts) {
      const { code, stdout } = await call(
        'medications',
        'list-medications',
        '{"status":"active"}',
        '--account',
        username,
        '--json',
      );
      expect(code).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ type: 'call', agent: 'medications', verdict: 'served' });
    }
  });

  it('lists who can be picked, and opens the one at each place', async () => {
    const { code, stdout, stderr } = await hmcp('patients', '--json', '--state', state);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const { account, patients } = JSON.parse(stdout) as { account: string; patients: { pick: number; id: string }[] };
    expect([account, patients.map(({ pick }) => pick)]).toEqual(['dr-okafor', patients.map((_, at) => at + 1)]);
    const second = patients[1];
    const reading = await call('labs', 'list-results', '{"category":"laboratory"}', '--pick', `${second?.pick}`);
    const { results } = JSON.parse(reading.stdout) as { results: { subject: { reference: string } }[] };
    expect(new Set(results.map(({ subject }) => subject.reference))).toEqual(new Set([`Patient/${second?.id}`]));
  });

  it('has audit logs that verify while they are in use, by hmcp audit verify', async () => {
    const { code, stdout, stderr } = await hmcp('audit', 'verify', join(state, 'audit'), '--json');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const findings = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { ok: boolean; file: string; records: number });
    expect(findings.every(({ ok }) => ok)).toBe(true);
    for (const file of world.ready.audit) expect(findings.map((finding) => finding.file)).toContain(file);
  });

  it('issues tokens that hmcp token inspect describes without printing them or the patient', async () => {
    const { ready } = world;
    const { clientId, redirectUri, scope, keyFile } = ready.client;
    const [privateKey] = (JSON.parse(await readFile(keyFile, 'utf8')) as { keys: (JWK & { kid: string; alg: string })[] }).keys;
    const smart = smartClient({ fhirServer: ready.fhirServer, clientId, redirectUri, ...(privateKey ? { privateKey } : {}) });
    const { username = '', password = '' } = ready.accounts[0] ?? {};
    const open = (url: string) => signIn({ url, username, password, patient: 0 });
    const unknown = smart.authorize({ launch: 'patient', scope: `${scope} patient/hmcp:unheard`, open });
    await expect(unknown).rejects.toMatchObject({ code: 'authorization_failed', oauth: 'invalid_scope' });
    const { accessToken, patient = '' } = await smart.authorize({ launch: 'patient', scope, open });
    const { code, stdout, stderr } = await run([HMCP, 'token', 'inspect'], { stdin: accessToken });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain(ready.issuer);
    for (const part of accessToken.split('.')) expect(stdout).not.toContain(part);
    expect(stdout).not.toContain(patient);
  });

  it('lets a person switch the patient by hand, a wrong answer first, and shows the session before and after', async () => {
    const none = await hmcp('context', 'show', 'ctx_nobody', '--state', state);
    expect(none).toMatchObject({ code: 1, stdout: '', stderr: 'hmcp context show: there is no such session\n' });

    const [a, b] = listed().map(({ birthDate, identifierLast4 }) => `${birthDate}\n${identifierLast4}\n`);
    const argv = [HMCP, 'context', 'switch', '--state', state];
    const switched = await run(argv, { stdin: `${a}${b}` });
    expect({ code: switched.code, stderr: switched.stderr }).toEqual({ code: 0, stderr: '' });
    expect(switched.stdout).toMatch(/^Session ctx_\S+ is open, epoch 1\.\n/);
    expect(switched.stdout.match(/Date of birth \(YYYY-MM-DD\): {3}Record number, last four characters: /g)).toHaveLength(2);
    expect(switched.stdout).toMatch(/\nSwitched: epoch 2\..* The first grant was revoked\.\n/);

    const sid = /ctx_[\w-]+/.exec(switched.stdout)?.[0] ?? '';
    const shown = await hmcp('context', 'show', sid, '--json', '--state', state);
    expect({ code: shown.code, stderr: shown.stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(shown.stdout)).toMatchObject({ sid, epoch: 2, last: { kind: 'switch', result: 'committed', epoch: 2 } });
    for (const anybody of everybody(shippedRecords())) expect(shown.stdout).not.toMatch(anybody);

    const declined = await run([...argv, '--json'], { stdin: '\n' });
    expect(declined.code).toBe(1);
    expect(declined.stdout.trimEnd().split('\n')).toHaveLength(1);
    expect(JSON.parse(declined.stdout)).toMatchObject({ type: 'switch', result: 'aborted', reason: 'declined', epoch: 1 });
    const verified = await hmcp('audit', 'verify', world.ready.manager.store);
    expect({ code: verified.code, stderr: verified.stderr }).toEqual({ code: 0, stderr: '' });
  });

  it.each([
    ['nothing to do', []],
    ['another verb', ['close']],
    ['a switch of a session named', ['switch', 'ctx_1']],
    ['two sessions', ['show', 'ctx_1', 'ctx_2']],
  ])('hmcp context says how it is used when given %s', async (_, argv) => {
    const answer = await hmcp('context', ...argv, '--state', state);
    expect(answer).toMatchObject({ code: 64, stdout: '', stderr: expect.stringMatching(/^hmcp context: say "show"/) });
  });

  it('keeps its state folder: a second world on it says so, exit 3, and the first goes on', async () => {
    const file = join(state, 'config/labs.json');
    const before = await readFile(file, 'utf8');
    const { code, stdout, stderr } = await hmcp('dev', '--json', '--state', state);
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).toMatch(/^hmcp dev: another world runs on the state folder [^\n]+\n$/);
    expect(await readFile(file, 'utf8')).toBe(before);
    expect((await call('labs', 'list-results')).code).toBe(0);
  });

  it('runs beside another world on another folder, with keys, addresses and accounts of its own', async () => {
    const other = await startDev({ state: await freshFolder() });
    try {
      const urls = [...world.ready.parties, ...other.ready.parties].map(({ url }) => url);
      expect(new Set(urls).size).toBe(urls.length);
      const [own, theirs] = await Promise.all([keysOf(world), keysOf(other)]);
      expect(own.map((keys, i) => JSON.stringify(keys) === JSON.stringify(theirs[i]))).toEqual(own.map(() => false));
      const calls = await Promise.all([
        call('labs', 'list-results'),
        hmcp('call', 'labs', 'list-results', '--state', other.ready.state),
      ]);
      expect(calls.map(({ code }) => code)).toEqual([0, 0]);
    } finally {
      expect(await other.stop()).toMatchObject({ code: 0 });
    }
  });
});

describe('a process of the world that cannot start', () => {
  it.each([
    ['without its configuration', ['labs', '/nonexistent.json'], /^labs: ended by ConfigurationError: [^\n]+\n$/],
    ['in a role that is none', ['dispensary', '/nonexistent.json'], /^dispensary: ended by ConfigurationError: [^\n]+\n$/],
    [
      'as authorization server without one',
      ['authorization-server', '/nonexistent.json'],
      /^authorization-server: ended by Error\n$/,
    ],
  ])('%s says so in one line, without a stack', async (_, argv, says) => {
    expect(await run([PARTY, ...argv])).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(says) });
  });
});

describe('a world that is stopped', () => {
  it('says so at the terminal once it has ended', async () => {
    const program = start([HMCP, 'dev', '--state', await freshFolder()]);
    await program.line('Stop with Ctrl-C');
    const ended = await program.stop('SIGINT');
    expect(ended.code).toBe(0);
    expect(ended.stdout).toMatch(/\nStopped: every process of the clinic has ended\.\n$/);
  });

  it('keeps keys and addresses for its next start on the same folder; meanwhile none runs, however it was stopped', async () => {
    const state = await freshFolder();
    const first = await startDev({ state });
    const keys = await keysOf(first);
    // As a terminal does that is closed.
    expect(await first.program.stop('SIGHUP')).toMatchObject({
      code: 0,
      stdout: expect.not.stringContaining('Stopped'), // it speaks JSON here
      stderr: first.program.said.stderr,
    });

    const meanwhile = await hmcp('call', 'labs', 'list-results', '--state', state);
    expect(meanwhile).toMatchObject({ code: 3, stdout: '', stderr: expect.stringMatching(/^hmcp call: nothing [^\n]+\n$/) });

    const [config, world] = [join(state, 'config'), join(state, 'world.json')];
    await Promise.all([chmod(config, 0o755), chmod(world, 0o644), chmod(join(config, 'labs.json'), 0o644)]);
    const second = await startDev({ state, underNpm: true });
    const modes = await Promise.all(
      [config, world, join(config, 'labs.json')].map(async (path) => (await stat(path)).mode & 0o777),
    );
    const below = hasProcessTable ? await descendants(second.program.pid) : [];
    try {
      expect(await keysOf(second)).toEqual(keys);
      expect(modes).toEqual([0o700, 0o600, 0o600]);
      expect(urlOf(second.ready, 'labs')).toBe(urlOf(first.ready, 'labs'));
      expect((await hmcp('audit', 'verify', state)).code).toBe(0);
    } finally {
      // SIGTERM reaches npm's shell alone; what it ran holds its output open until it ended too.
      await second.stop();
    }
    expect(await survivors(below)).toEqual([]);
  });

  it.skipIf(!hasProcessTable)(
    'by the end of one of its processes says which, exits 1 and leaves none of the others',
    async () => {
      const world = await startDev({ state: await freshFolder() });
      const children = await descendants(world.program.pid);
      const labs = children.find(({ title }) => / labs /.test(title));
      expect(labs).toBeDefined();
      process.kill(labs?.pid ?? 0, 'SIGKILL');
      const { code, stderr } = await world.program.ended;
      expect(code).toBe(1);
      expect(stderr).toMatch(/hmcp dev: the process "labs" ended\n$/);
      expect(await survivors(children)).toEqual([]);
    },
  );
});

describe('a world that cannot be', () => {
  it.each([
    ['in production', [], { NODE_ENV: 'production' }, 64, /does not start with NODE_ENV=production\n$/],
    ['on records that are missing', ['--data', '/nonexistent'], {}, 3, /^hmcp dev: The records folder cannot be read/],
    ['on a state folder that is a file', ['--state', HMCP], {}, 3, /^hmcp dev: the state folder \S+ cannot be used \(\w+\)\n$/],
    ['with an argument nobody knows', ['--patient', 'x'], {}, 64, /^hmcp dev: an argument is not understood/],
  ])('%s says why in a sentence', async (_, argv, env, code, says) => {
    const state = (argv as readonly string[]).includes('--state') ? [] : ['--state', await freshFolder()];
    const answer = await run([HMCP, 'dev', ...argv, ...state], { env });
    expect(answer).toMatchObject({ code, stdout: '', stderr: expect.stringMatching(says) });
  });

  it.each([
    ['is missing', undefined],
    ['holds no world', '{}'],
    ['is no JSON', '{'],
  ])('hmcp call says so when the world of a state folder %s, exit 3', async (_, text) => {
    const state = await freshFolder();
    if (text !== undefined) await writeFile(join(state, 'world.json'), text);
    const answer = await hmcp('call', 'labs', 'list-results', '--state', state);
    expect(answer).toMatchObject({
      code: 3,
      stdout: '',
      stderr: expect.stringMatching(/^hmcp call: no world has been started on/),
    });
  });
});
