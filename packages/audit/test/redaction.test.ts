import { describe, expect, test } from 'vitest';
import { createLogger, type LogFields, type Logger, type LogLevel } from '../src/index.js';

const CANARY = 'ZZ-CANARY-7731';

function recording(): { log: Logger; lines: () => Record<string, unknown>[]; text: () => string } {
  let text = '';
  const write = (line: string): void => {
    text += line;
  };
  const log = createLogger({ name: 'labs', level: 'debug', destination: { write } });
  const lines = () =>
    text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return { log, lines, text: () => text };
}

/** An error with the canary wherever an error can carry text. */
function leakyError(): Error {
  class UpstreamError extends Error {
    readonly code = 'ECONNRESET';
    readonly response = { body: CANARY };
  }
  const error = new UpstreamError(CANARY, { cause: new Error(CANARY) });
  error.stack = `${CANARY}\n    at ${CANARY}`;
  error.name = CANARY;
  return error;
}

describe('the logger', () => {
  test('needs a name', () => {
    expect(() => createLogger({ name: undefined as never })).toThrow('"name" of a logger is missing');
  });

  test('writes time, level, name, message and allow-listed fields', () => {
    const { log, lines } = recording();
    log.warn(
      { event: 'request.refused', code: 40903, check: 'argument', by: 'https://labs.example/mcp', hop: 2, ms: 1.5 },
      'refused',
    );
    log.info('ready');
    expect(lines()).toEqual([
      {
        level: 40,
        time: expect.any(String),
        name: 'labs',
        pid: process.pid,
        event: 'request.refused',
        code: 40903,
        check: 'argument',
        by: 'https://labs.example/mcp',
        hop: 2,
        ms: 1.5,
        msg: 'refused',
      },
      { level: 30, time: expect.any(String), name: 'labs', pid: process.pid, msg: 'ready' },
    ]);
  });

  test.each<[string, unknown]>([
    [
      'fields of other names',
      { patient: CANARY, params: { patientId: CANARY }, token: CANARY, a: { b: { access_token: CANARY } } },
    ],
    ['an error', { err: leakyError() }],
    ['text thrown as an error', { err: CANARY }],
    ['an object thrown as an error', { err: { message: CANARY } }],
    ['an error in another field', { reason: leakyError() }],
    ['an object in an allow-listed field', { by: { toJSON: () => CANARY, toString: () => CANARY }, tool: { name: CANARY } }],
    ['an array in an allow-listed field', { method: [CANARY] }],
    ['text in a number', { status: CANARY, hop: CANARY, ms: CANARY }],
    [
      'query, fragment and credentials of a URL',
      { url: `https://${CANARY}:${CANARY}@ehr.example/Patient?name=${CANARY}#${CANARY}` },
    ],
    ['a sentence where a word belongs', { tool: `${CANARY} ${CANARY}`, intent: `{"patient":"${CANARY}"}` }],
    ['what stands after 256 characters', { reason: `${'x'.repeat(256)}${CANARY}` }],
    ['a member inherited from a prototype', Object.create({ reason: undefined, secret: CANARY })],
  ])('lets no canary out through %s', (_what, fields) => {
    const { log, text } = recording();
    for (const level of ['debug', 'info', 'warn', 'error', 'fatal'] as LogLevel[])
      log[level](fields as LogFields, 'something happened');
    expect(text()).toContain('something happened');
    expect(text().toUpperCase()).not.toContain(CANARY);
  });

  test('a planted leak is caught by the same search', () => {
    const { log, text } = recording();
    log.info({ reason: `patient ${CANARY}` }, 'a programmer put a value where a fixed word belongs');
    expect(text().toUpperCase()).toContain(CANARY);
  });

  test('the compiler refuses messages with values in them', () => {
    const { log, text } = recording();
    const name: string = 'computed';
    // @ts-expect-error a computed string is no fixed message
    log.info(name);
    // @ts-expect-error neither is a template with a value
    log.info(`opened ${name}`);
    // @ts-expect-error nor after fields
    log.info({ hop: 1 }, `opened ${name}`);
    // @ts-expect-error nor is an unknown field a field
    log.info({ patient: name }, 'opened');
    log.info({ hop: 1 }, 'opened');
    expect(text()).toContain('opened');
  });

  test.each([
    ['a line feed', 'a\nb'],
    ['escape', 'a\u001b[31mb'],
    ['C1 control', 'a\u009bb'],
    ['right-to-left override', 'a\u202eb'],
    ['line separator', 'a\u2028b'],
    ['zero-width space', 'a\u200bb'],
    ['lone surrogate', 'a\ud800b'],
  ])('takes %s out of text', (_what, reason) => {
    const { log, lines } = recording();
    log.info({ reason }, 'x');
    expect(lines()[0]?.reason).toMatch(/^a(\[31m)?b$/);
  });
});

test('fits the pino-shaped logger that other packages ask for', () => {
  const { log, text } = recording();
  const asked: { error(fields: Readonly<Record<string, unknown>>, message: string): void } = log;
  asked.error({ code: 50302, patient: CANARY }, 'could not be audited');
  expect(text()).toContain('could not be audited');
  expect(text()).not.toContain(CANARY);
});
