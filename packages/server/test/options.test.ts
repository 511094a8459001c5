import { describe, expect, test } from 'vitest';
import type { AgentEnv, ServeOptions, StdioOptions } from '../src/index.js';

/** Every member of a type, or it does not compile; the value says why it cannot turn a check off. */
type Reasons<T> = Readonly<Record<keyof T, string>>;

const ENV: Reasons<AgentEnv> = {
  resource: 'the audience every token must have',
  authorizationServers: 'only told to callers',
  verifier: 'every request passes it; of another resource it is refused',
  audit: 'nothing is released before it says so',
  pseudonymKey: 'must have 16 characters or more',
  context: 'asks for more than the default, never for less',
  operations: 'what is not in it is refused',
  policy: 'without one, tokens without a patient are refused',
  policyTimeoutMs: 'late means no',
  tokens: 'without it the handler reads nothing',
  outbound: 'without it the handler calls nobody',
  managers: 'with none, no seal proves anything; with any, effects need a seal and a permit',
  permits: 'without it no effect of a session is caused',
  participation: 'without it a manager is refused',
  transition: 'for listed clients, to read, until a date; the policy is still asked',
  unverifiable: 'says what happens to what nobody can check; everything checkable is checked',
  allowedOrigins: 'lets a browser call; it still needs a token',
  log: 'only told to operators',
  now: 'a clock for tests; tokens are verified by the clock of the verifier',
  monotonic: 'a clock for tests; permits are timed by it, never beyond 10 s',
  fetch: 'the network of the handler’s own FHIR client, and of the keys of managers',
};

const SERVE: Reasons<ServeOptions> = {
  port: 'where to listen',
  host: 'where to listen; beyond loopback TLS must end in front',
  behindProxy: 'states that it does',
};

const STDIO: Reasons<StdioOptions> = {
  stdin: 'where messages come from',
  stdout: 'where they go',
  accessToken: 'pins the process to the patient of one token, which is verified like any other',
};

describe('no option turns a check off', () => {
  test.each([
    ['AgentEnv', ENV, 21],
    ['ServeOptions', SERVE, 3],
    ['StdioOptions', STDIO, 3],
  ] as const)('%s has the members reviewed here and no others', (_name, reasons, count) => {
    expect(Object.keys(reasons)).toHaveLength(count);
    for (const [name, reason] of Object.entries(reasons)) {
      expect(name).not.toMatch(/skip|disable|insecure|unsafe|trust|bypass|ignore|allowAll|noAuth|dev/i);
      expect(reason).not.toBe('');
    }
  });
});
