import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { CHECKS, ERRORS, explain, HmcpError, type HmcpErrorCode, isHmcpErrorCode, meaningOf, RefusalData } from '../src/index.js';

const CODES = Object.keys(ERRORS).map(Number) as HmcpErrorCode[];
const LABS = 'https://labs.example/mcp';

describe('the table of refusals', () => {
  it('is the one of the protocol', () => {
    expect(Object.entries(ERRORS).map(([code, { name, retry }]) => `${code} ${name} ${retry}`)).toMatchInlineSnapshot(`
      [
        "40100 unauthorized never",
        "40101 seal_expired same",
        "40300 insufficient_scope never",
        "40301 switch_forbidden never",
        "40302 patient_not_authorized never",
        "40303 operation_undeclared never",
        "40901 stale_epoch after_user",
        "40902 switch_in_progress same",
        "40903 patient_mismatch never",
        "40904 switch_id_reused never",
        "41001 session_closed never",
        "41201 epoch_precondition after_user",
        "42201 confirmation_failed after_user",
        "42301 switching same",
        "42801 context_required never",
        "42802 permit_required after_user",
        "50301 authority_unavailable same",
        "50302 audit_unavailable same",
      ]
    `);
  });

  it.each([
    ['argument', 'an argument names another patient', 'leave the patient out'],
    ['header', '`X-HMCP-Patient` names another patient', 'leave the header out'],
    ['equality', 'token and envelope do not name the same patient', 'send the envelope'],
    [
      'seal',
      'the seal is not valid here',
      'compare `trustDomain`, `keys` and `issuer` of that manager in `managers` of the server',
    ],
    ['result', 'nothing of it was released', 'its audit says which: for a row of somebody else'],
  ] as const)('40903 of check %s says what named another patient, and its own mend', (check, says, mend) => {
    const text = explain(new HmcpError(40903, { by: LABS, hop: 2, check }));
    expect(text).toContain(says);
    expect(text).toContain(`Mend: ${mend}`);
  });

  it.each([
    [40301, 'session', 'does not name this caller', 'name every agent that takes part in `participants`'],
    [40302, 'peer', 'it answered 401 or 403', 'see the audit of the peer'],
    [40302, 'exchange', 'the authorization server gave no token', 'register the caller for that peer'],
    [40302, 'token', 'ends before the call could', 'launch again'],
    [40302, 'scope', 'does not cover a scope', 'launch with `scope` and `onward`'],
    [40302, 'argument', 'nobody is told which', 'ask for what this patient has'],
    [40302, 'policy', ERRORS[40302].says, ERRORS[40302].mend],
    [42802, 'seal', 'the call brought none', 'open the session with `manager`'],
    [42802, 'peer', 'nobody to ask for a permit', 'give the server `permits` and `participation`'],
    [42802, 'operation', 'does not declare', 'declare `effect: true`'],
    [
      50301,
      'peer',
      'what answers at its address is no MCP server',
      'repeat when it answers again; if it never does, compare its address',
    ],
    [50301, 'token', 'the token was not verified', 'repeat when it answers again; if it never does, compare `issuer`'],
    [50301, 'seal', 'the seal was not verified', 'repeat when they can be had again; if they never can, compare `jwksUri`'],
    [50301, 'session', 'the context manager', 'repeat when it answers again; if it never does, compare its address'],
    [50301, 'policy', ERRORS[50301].says, ERRORS[50301].mend],
    [42802, 'permit', ERRORS[42802].says, 'let the person act again'],
    [
      40903,
      'result',
      'could not be shown to be',
      'its audit says which: for a row of somebody else have that server looked at; for a part that nobody can check let the tool answer `structuredContent` and declare `output`',
    ],
  ] as const)('%i of check "%s" has one cause and its own mend', (code, check, says, mend) => {
    const text = explain(new HmcpError(code, { by: LABS, hop: 2, check }));
    expect(text).toContain(says);
    expect(text).toContain(`Mend: ${mend}`);
  });

  it.each(CODES)('%i explains itself: who, which check, whether to retry, how to mend', (code) => {
    const text = explain(new HmcpError(code, { by: LABS, hop: 2, check: 'policy', intent: '0198-f2c1' }));
    const { name, says, mend, retry } = ERRORS[code];
    expect(text.split('\n')).toHaveLength(2);
    for (const part of [
      `${code} ${name}`,
      `refused by ${LABS} (hop 2), check "policy"`,
      says,
      `Mend: ${mend}.`,
      'Intent: 0198-f2c1.',
    ])
      expect(text).toContain(part);
    expect(text.includes('Do not retry.')).toBe(retry === 'never');
    expect(text.includes('may be repeated')).toBe(retry === 'same');
    expect(text.includes('Ask the person')).toBe(retry === 'after_user');
  });

  it('explains a refusal before the token was verified without a hop', () => {
    expect(explain(new HmcpError(50302, { by: LABS, check: 'audit' }))).toMatchInlineSnapshot(`
      "50302 audit_unavailable, refused by https://labs.example/mcp, check "audit": the audit record could not be made durable.
      The same request may be repeated. Mend: repeat when the audit store accepts records again."
    `);
  });

  it.each([
    ['an exception', new TypeError('patient A1 is Ann'), 'not a patient-context refusal: TypeError'],
    ['a JSON-RPC error of another kind', { code: -32602, message: 'patient A1' }, 'not a patient-context refusal: object'],
    ['a string', 'patient A1', 'not a patient-context refusal: string'],
    ['nothing', undefined, 'not a patient-context refusal: undefined'],
    ['null', null, 'not a patient-context refusal: object'],
  ])('says no more of %s than its class', (_what, error, text) => expect(explain(error)).toBe(text));

  it.each([40903, 50301])('knows %s', (code) => expect(isHmcpErrorCode(code)).toBe(true));
  it.each(['40903', 40999, -32602, Number.NaN, 'toString', null, undefined, [40903], 40903n])('does not know %s', (code) =>
    expect(isHmcpErrorCode(code)).toBe(false));
});

describe('HmcpError', () => {
  it('crosses the wire as code and data, and is read back from any SDK’s error', () => {
    const error = new HmcpError(40903, { by: LABS, hop: 1, check: 'equality', intent: 'i-1' });
    const wire = JSON.parse(JSON.stringify({ code: error.code, message: error.message, data: error.data })) as unknown;
    expect(wire).toEqual({
      code: 40903,
      message: `patient_mismatch: ${meaningOf(40903, 'equality').says}`,
      data: { by: LABS, hop: 1, check: 'equality', intent: 'i-1', retry: 'never' },
    });
    expect(HmcpError.from(wire)).toEqual(error);
    expect(HmcpError.from(Object.assign(new Error('MCP error 40903'), wire))?.check).toBe('equality');
    expect(HmcpError.from(error)).toBe(error);
  });

  it('keeps its reason and cause out of every serializer', () => {
    const error = new HmcpError(40302, { by: LABS, check: 'policy' }, { reason: 'not her doctor', cause: new Error('A1') });
    expect(error.reason).toBe('not her doctor');
    expect(error.cause).toBeInstanceOf(Error);
    expect(JSON.stringify({ ...error, error })).not.toMatch(/doctor|A1/);
    expect(inspect({ ...error })).not.toMatch(/doctor/);
    expect(error.message).not.toMatch(/doctor|A1/);
  });

  it('takes the retry rule of the code, whatever a peer says', () => {
    const data = { by: LABS, check: 'result', retry: 'same' };
    expect(HmcpError.from({ code: 40903, data })?.data.retry).toBe('never');
  });

  it.each([
    ['no data', undefined],
    ['null', null],
    ['a list', []],
    ['no refuser', { retry: 'never', check: 'token' }],
    ['an empty refuser', { retry: 'never', check: 'token', by: '' }],
    ['a refuser with a line break', { retry: 'never', check: 'token', by: 'labs\nrefused by nobody' }],
    ['a refuser that paints the terminal', { retry: 'never', check: 'token', by: '\u001b[2Jlabs' }],
    ['a refuser of 3 KB', { retry: 'never', check: 'token', by: 'x'.repeat(3000) }],
    ['an unknown check', { retry: 'never', check: 'mood', by: LABS }],
    ['an unknown retry', { retry: 'always', check: 'token', by: LABS }],
    ['hop 0', { retry: 'never', check: 'token', by: LABS, hop: 0 }],
    ['half a hop', { retry: 'never', check: 'token', by: LABS, hop: 1.5 }],
    ['hop 17', { retry: 'never', check: 'token', by: LABS, hop: 17 }],
    ['an intent with spaces', { retry: 'never', check: 'token', by: LABS, intent: 'Ann Archer' }],
  ])('does not read %s as a refusal', (_what, data) => expect(HmcpError.from({ code: 40903, data })).toBeUndefined());

  it('drops members of data it does not know', () => {
    const data = { retry: 'never', by: LABS, check: 'token', patient: 'A1' };
    expect(HmcpError.from({ code: 40903, data })?.data).toEqual({ retry: 'never', by: LABS, check: 'token' });
  });

  it('has a check for every step of a request, in their order', () => {
    expect(CHECKS.join(' ')).toBe(
      'size token header envelope seal equality scope operation policy epoch argument result audit permit session confirmation exchange peer',
    );
    for (const check of CHECKS) expect(RefusalData.safeParse({ retry: 'never', by: LABS, check }).success).toBe(true);
  });
});
