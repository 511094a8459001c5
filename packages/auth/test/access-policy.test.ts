import { afterEach, describe, expect, it, vi } from 'vitest';
import { type AccessPolicy, type AccessQuestion, AuthorityUnavailable, askAccessPolicy } from '../src/index.js';

afterEach(() => {
  vi.useRealTimers();
});

const question: AccessQuestion = {
  ...{ issuer: 'https://as.example', subject: 'dr', clientId: 'portal', fhirServer: 'https://fhir.example' },
  ...{ patient: 'A1', operation: 'list-results', effect: false },
};
const policy = (decide: AccessPolicy['decide']): AccessPolicy => ({ decide });

describe('askAccessPolicy', () => {
  it('hands the question over and returns its answer', async () => {
    const decide = vi.fn<AccessPolicy['decide']>(async () => 'allow');
    expect(await askAccessPolicy(policy(decide), question)).toBe('allow');
    expect(decide).toHaveBeenCalledExactlyOnceWith(question);
    expect(
      await askAccessPolicy(
        policy(async () => 'deny'),
        question,
      ),
    ).toBe('deny');
  });

  it('denies when there is no policy', async () => {
    expect(await askAccessPolicy(undefined, question)).toBe('deny');
  });

  it.each([undefined, null, true, 1, 'ALLOW', 'allowed', {}, ['allow']])('denies when it says %j', async (answer) => {
    expect(
      await askAccessPolicy(
        policy(async () => answer as 'allow'),
        question,
      ),
    ).toBe('deny');
  });

  it('a policy that fails is unavailable, however it fails, and its words go nowhere', async () => {
    const thrown = policy(() => {
      throw new Error('patient A1 of dr');
    });
    for (const one of [thrown, policy(() => Promise.reject(new Error('patient A1 of dr')))]) {
      const error = await askAccessPolicy(one, question).catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(AuthorityUnavailable);
      expect(JSON.stringify([error, String(error), (error as Error).cause])).not.toContain('A1');
    }
  });

  it('a policy that is late is unavailable, and its late answer changes nothing', async () => {
    vi.useFakeTimers();
    const asked = askAccessPolicy(
      policy(() => new Promise(() => undefined)),
      question,
      { timeoutMs: 5000 },
    );
    const settled = expect(asked).rejects.toBeInstanceOf(AuthorityUnavailable);
    await vi.advanceTimersByTimeAsync(5000);
    await settled;
    expect(vi.getTimerCount()).toBe(0);
  });
});
