import { readFile, writeFile } from 'node:fs/promises';
import { ERRORS } from '@hmcp/core';
import { describe, expect, test } from 'vitest';
import { freshFolder, type, writeLog } from './terminal.js';

describe('hmcp explain CODE', () => {
  test.each(Object.entries(ERRORS))('%s', async (code, { name, says, mend }) => {
    const byCode = await type(['explain', code]);
    expect(byCode).toEqual({ code: 0, stdout: expect.stringContaining(`${code} ${name}: ${says}.`), stderr: '' });
    expect(byCode.stdout).toContain(`Mend: ${mend}.`);
    expect(await type(['explain', name])).toEqual(byCode);
  });

  test.each([
    '400',
    '401',
    '403',
    '503',
    '-32602',
    '-32603',
    '-32020',
  ])('%s, which is not about patient context', async (code) => {
    expect(await type(['explain', code])).toMatchObject({ code: 0, stdout: expect.stringMatching(new RegExp(`^${code} `)) });
  });

  test.each(['40999', '0', '-1', '99999', '-7581'])('%s is no code of this protocol', async (code) => {
    const state = await freshFolder();
    expect(await type(code.startsWith('-') ? ['explain', code] : ['explain', code, '--state', state])).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('no such code'),
    });
  });
});

const INTENT = '0198f2c1-0000-7000-8000-000000000001';

async function refusedTwoHopsDown(): Promise<string> {
  const state = await freshFolder();
  const about = { intent: INTENT, txn: 'txn-77', code: 40903, check: 'argument' } as const;
  const labs = 'http://127.0.0.1:7000/labs';
  const triage = 'http://127.0.0.1:7000/triage';
  await writeLog(state, 'portal', [
    [0, { event: 'hop.call', hop: 0, intent: INTENT, txn: 'txn-77', tool: 'assess', peer: triage }],
    [30, { event: 'hop.refused', outcome: 4, hop: 0, ...about, tool: 'assess', peer: triage }],
    [40, { intent: 'another-intent', tool: 'assess' }],
  ]);
  await writeLog(state, 'triage', [
    [10, { event: 'hop.call', hop: 1, intent: INTENT, txn: 'txn-77', tool: 'list-results', peer: labs }],
    [
      25,
      {
        event: 'request.refused',
        outcome: 4,
        hop: 1,
        ...about,
        tool: 'assess',
        clientId: 'portal',
        reason: 'a hop behind this one refused',
      },
    ],
  ]);
  await writeLog(state, 'labs', [
    [
      20,
      {
        event: 'request.refused',
        outcome: 4,
        hop: 2,
        ...about,
        tool: 'list-results',
        clientId: 'triage',
        reason: 'names another patient',
        compared: [
          { said: 'token', pk: 'A'.repeat(43) },
          { said: 'header', pk: 'A'.repeat(43) },
          { said: 'argument', argument: 'patientId', pk: 'B'.repeat(43) },
        ],
      },
    ],
  ]);
  return state;
}

describe('hmcp explain INTENT', () => {
  test.each([
    INTENT,
    INTENT.slice(0, 8),
    'txn-77',
  ])('tells by %s, hop by hop, who decided what, and explains the first refusal', async (id) => {
    const state = await refusedTwoHopsDown();
    const { code, stdout, stderr } = await type(['explain', id, '--state', state]);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout.split('\n').map((line) => line.trimEnd())).toEqual([
      expect.stringMatching(/: 5 decisions of 3 parties from 2026-02-03T04:05:06.000Z$/),
      '',
      '     +0 ms  portal  hop 0  called assess at http://127.0.0.1:7000/triage',
      '    +10 ms    triage  hop 1  called list-results at http://127.0.0.1:7000/labs',
      '    +20 ms      labs    hop 2  refused list-results for triage · 40903 patient_mismatch · check "argument" · names another patient',
      '    +25 ms    triage  hop 1  refused assess for portal · 40903 patient_mismatch · check "argument" · a hop behind this one refused',
      '    +30 ms  portal  hop 0  was refused assess at http://127.0.0.1:7000/triage · 40903 patient_mismatch · check "argument"',
      '',
      'First refused by labs (hop 2), check "argument". 40903 patient_mismatch: an argument names another patient than the context.',
      'Do not retry. Mend: leave the patient out: the context fills it in.',
      'A refused and a mended example: docs/errors/40903.md',
      'Compared, by pseudonym (pk):',
      '  token                 AAAAAAAAAA…',
      '  header                AAAAAAAAAA…',
      '  argument "patientId"  BBBBBBBBBB…  another patient',
      '',
    ]);
  });

  test.each([
    '0198',
    '01981',
    '01981234',
  ])('takes the digits %s, which are no code, for the beginning of an id', async (digits) => {
    const state = await freshFolder();
    const intent = '01981234-0000-7000-8000-000000000001';
    await writeLog(state, 'labs', [[0, { intent, tool: 'list-results' }]]);
    const answer = await type(['explain', digits, '--state', state]);
    expect(answer).toEqual({ code: 0, stdout: expect.stringContaining(`${intent}: 1 decision`), stderr: '' });
  });

  test('takes digits that are a code for the code, also when an id begins so', async () => {
    const state = await freshFolder();
    await writeLog(state, 'labs', [[0, { intent: '40903000-0000-7000-8000-000000000001' }]]);
    expect(await type(['explain', '40903', '--state', state])).toEqual(await type(['explain', '40903']));
    expect((await type(['explain', '409030', '--state', state])).stdout).toContain('1 decision');
  });

  test('says of digits that begin several ids which they are, and of others that they are neither code nor id', async () => {
    const state = await freshFolder();
    await writeLog(state, 'labs', [
      [0, { intent: '7581aaaa' }],
      [1, { intent: '7581bbbb' }],
    ]);
    const several = { code: 1, stdout: '', stderr: 'hmcp explain: several ids begin so: 7581aaaa, 7581bbbb\n' };
    expect(await type(['explain', '7581', '--state', state])).toEqual(several);
    const neither = `hmcp explain: this protocol has no such code, and no id in the audit logs of ${state} begins so\n`;
    expect(await type(['explain', '7582', '--state', state])).toEqual({ code: 1, stdout: '', stderr: neither });
  });

  test('does not overlook tampering where it looks for digits', async () => {
    const state = await freshFolder();
    const file = await writeLog(state, 'labs', [[0, { intent: '7581aaaa' }]]);
    await writeFile(file, (await readFile(file, 'utf8')).replace('7581aaaa', '7581aaab'));
    expect(await type(['explain', '7581', '--state', state])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('TAMPERED'),
    });
  });

  test('names the refuser furthest on when a refusal and its way back share a millisecond', async () => {
    const state = await freshFolder();
    const refused = { event: 'request.refused', outcome: 4, intent: INTENT, code: 40903, check: 'result' } as const;
    await writeLog(state, 'desk', [[5, { ...refused, hop: 1 }]]);
    await writeLog(state, 'labs', [
      [5, { ...refused, hop: 2, compared: [{ said: 'context', pk: 'C'.repeat(43) }, { said: 'result' }] }],
    ]);
    const { stdout } = await type(['explain', INTENT, '--state', state]);
    expect(stdout).toContain('First refused by labs (hop 2), check "result".');
    expect(stdout).toMatch(/ {2}context {2}CCCCCCCCCC…\n {2}result {3}whose it is could not be told\n$/);
  });

  const TRACE = '0af7651916cd43dd8448eb211c80319c';
  const refusedByLabs = { event: 'request.refused', outcome: 4, code: 401, check: 'token', reason: 'unknown issuer' } as const;

  async function refusedAtTheGate(stray: object): Promise<string> {
    const state = await freshFolder();
    const about = { intent: INTENT, hop: 0, peer: 'http://127.0.0.1:7000/labs', traceparent: `00-${TRACE}-b7ad6b7169203331-01` };
    await writeLog(state, 'desk', [
      [0, { ...about, event: 'hop.call', tool: 'list-results' }],
      [
        9,
        { ...about, event: 'hop.refused', outcome: 4, code: 40302, check: 'peer', reason: 'the peer does not accept the token' },
      ],
    ]);
    await writeLog(state, 'labs', [[9, { ...refusedByLabs, ...stray }]]);
    return state;
  }

  test('joins what a server refused before it knew whose request it was by the trace, says so, and shows its reason', async () => {
    const state = await refusedAtTheGate({ traceparent: `00-${TRACE}-00f067aa0ba902b7-01` });
    const { stdout } = await type(['explain', INTENT, '--state', state]);
    expect(stdout).toContain('3 decisions of 2 parties from');
    expect(stdout).toContain('; 1 of them names no intent, joined by trace\n');
    expect(stdout).toMatch(/labs .* refused · 401 · check "token" · unknown issuer · joined by trace\n/);
    expect(stdout).toContain('First refused by labs, check "token". 401 unauthorized');
  });

  test.each([
    ['of another trace', { traceparent: `00-${'1'.repeat(32)}-00f067aa0ba902b7-01` }],
    ['of no trace', {}],
    ['of the trace, about another intent', { traceparent: `00-${TRACE}-00f067aa0ba902b7-01`, intent: 'another-intent' }],
  ])('joins nothing %s', async (_, stray) => {
    const { stdout } = await type(['explain', INTENT, '--state', await refusedAtTheGate(stray)]);
    expect(stdout).toContain('2 decisions of 1 party from');
    expect(stdout).not.toMatch(/joined|unknown issuer/);
    expect(stdout).toContain('First refused by desk (hop 0), check "peer". 40302');
  });

  test('joins twenty records at most: a trace is what a caller says it is', async () => {
    const state = await refusedAtTheGate({ intent: 'another-intent' });
    const flood = { ...refusedByLabs, traceparent: `00-${TRACE}-00f067aa0ba902b7-01` };
    await writeLog(
      state,
      'notes',
      Array.from({ length: 30 }, (_, i) => [i, { ...flood, reason: `unknown issuer ${i}` }]),
    );
    expect((await type(['explain', INTENT, '--state', state])).stdout).toContain('20 of them name no intent, joined by trace');
  });

  test.each([
    [
      'a part of the result cannot be verified: text of content',
      /No row of somebody else was found\. Mend: let the tool answer `structuredContent` and declare `output`/,
    ],
    ['another patient', /Its audit says: another patient\. Mend: look at what that server answers/],
  ])('says of a withheld result which of two causes it was: %s', async (reason, said) => {
    const state = await freshFolder();
    const withheld = {
      event: 'result.withheld',
      outcome: 8,
      intent: INTENT,
      hop: 1,
      code: 40903,
      check: 'result',
      reason,
    } as const;
    await writeLog(state, 'old-labs', [[5, withheld]]);
    const { stdout } = await type(['explain', INTENT, '--state', state]);
    expect(stdout).toContain(`· ${reason}`);
    expect(stdout).toMatch(said);
  });

  test.each([
    ['request.served', 4, 'the arguments do not satisfy the input schema of the tool', 'see whether its `patientArgument` in'],
    ['request.refused', 8, 'the server has no tool of that name', 'correct the name in `operations`'],
  ] as const)('tells of a call that failed before its tool ran (%s, outcome %i) why, and the mend', async (event, outcome, reason, mend) => {
    const state = await freshFolder();
    const code = event === 'request.refused' ? { code: -32602 } : {};
    const failed = { event, outcome, intent: INTENT, hop: 1, tool: 'get-labs', clientId: 'portal', reason, ...code } as const;
    await writeLog(state, 'old-labs', [[5, failed]]);
    const { stdout } = await type(['explain', INTENT, '--state', state]);
    expect(stdout).toContain(`Failed at old-labs (hop 1) before the tool ran: ${reason}. Mend: ${mend}`);
    expect(stdout).not.toMatch(/ served /);
  });

  test.each([
    [0, 'served'],
    [4, 'failed'],
    [8, 'failed'],
  ] as const)('says of an answer with outcome %i that the call was %s', async (outcome, verb) => {
    const state = await freshFolder();
    await writeLog(state, 'labs', [[5, { outcome, intent: INTENT, hop: 1, tool: 'get-labs' }]]);
    const { stdout } = await type(['explain', INTENT, '--state', state]);
    expect(stdout).toMatch(new RegExp(`  ${verb} get-labs\\n$`));
  });

  test('reads the state folder of HMCP_STATE when none is given', async () => {
    const state = await refusedTwoHopsDown();
    expect(await type(['explain', INTENT], { env: { HMCP_STATE: state } })).toMatchObject({ code: 0 });
  });

  test('does not guess between ids that begin alike, nor invent one that is not there', async () => {
    const state = await freshFolder();
    await writeLog(state, 'labs', [
      [0, { intent: 'same-start-1' }],
      [1, { intent: 'same-start-2' }],
    ]);
    expect(await type(['explain', 'same-start', '--state', state])).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('same-start-1, same-start-2'),
    });
    expect(await type(['explain', 'same-start-1', '--state', state])).toMatchObject({ code: 0 });
    expect(await type(['explain', 'elsewhere', '--state', state])).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('no record'),
    });
  });

  test('says when a log it read was tampered with, and tells only what precedes that', async () => {
    const state = await refusedTwoHopsDown();
    const file = `${state}/audit/labs.jsonl`;
    await writeFile(file, (await readFile(file, 'utf8')).replace('names another patient', 'names the same patient'));
    const { code, stdout, stderr } = await type(['explain', INTENT, '--state', state]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/TAMPERED .*labs\.jsonl, line 3/);
    expect(stdout).not.toContain('names the same patient');
    expect(stdout).toContain('4 decisions of 2 parties');
  });

  test('a state folder that is missing or has no logs cannot be read', async () => {
    const empty = await freshFolder();
    expect(await type(['explain', INTENT, '--state', empty])).toMatchObject({ code: 3, stdout: '' });
    expect(await type(['explain', INTENT, '--state', `${empty}/nowhere`])).toMatchObject({ code: 3, stdout: '' });
  });
});
