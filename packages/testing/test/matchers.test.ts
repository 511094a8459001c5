import { labs, listResults } from '@hmcp/clinic';
import { explain, HmcpError, meaningOf } from '@hmcp/core';
import { createTestbed, people } from '@hmcp/testing';
import { describe, expect, it } from 'vitest';
import '@hmcp/testing/vitest';

const refusal = new HmcpError(40901, { by: 'labs', check: 'epoch' });

describe('toHaveRefused', () => {
  it('takes a rejected promise or the error itself', async () => {
    await expect(Promise.reject(refusal)).toHaveRefused(40901, { check: 'epoch' });
    await expect(refusal).toHaveRefused(40901);
    await expect(refusal).not.toHaveRefused(40903);
  });

  it.each<[string, () => unknown, number]>([
    ['work that was done', () => Promise.resolve('done'), 40901],
    ['another code', () => Promise.reject(refusal), 40903],
    ['an error that is no refusal', () => Promise.reject(new Error('40901')), 40901],
    ['no error at all', () => undefined, 40901],
    ['a look-alike without a check', () => ({ code: 40901, data: {} }), 40901],
  ])('fails for %s', async (_, received, code) => {
    await expect(expect(received()).toHaveRefused(code)).rejects.toThrow(`expected a refusal ${code}`);
  });

  it('fails for another check, and explains what came instead', async () => {
    await expect(expect(refusal).toHaveRefused(40901, { check: 'result' })).rejects.toThrow('40901 stale_epoch, refused by labs');
  });
});

describe('a failing toHaveRefused', () => {
  it('says what was expected in the words of explain, and what came with its mend', async () => {
    const { says } = meaningOf(40903, 'argument');
    const failing = expect(expect(refusal).toHaveRefused(40903, { check: 'argument' })).rejects;
    await failing.toThrow(`expected a refusal 40903 patient_mismatch of check "argument" (${says}), got: ${explain(refusal)}`);
  });

  it('says so when there is no such code', async () => {
    await expect(expect(refusal).toHaveRefused(40999)).rejects.toThrow('40999, which is no code of a refusal');
  });
});

describe('the matchers of a trace', () => {
  it('toStayOnPatient fails where nothing was asked: it would prove nothing', async () => {
    await using bed = await createTestbed({ agents: [labs] });
    expect(() => expect(bed.trace).toStayOnPatient()).toThrow('nothing was asked');
  });

  it('toHaveAudited fails for a record nobody wrote, and lists what was written', async () => {
    await using bed = await createTestbed({ agents: [labs] });
    const session = await bed.open(people.corvindo);
    await session.call('labs', listResults, {});
    expect(bed.trace).not.toHaveAudited({ by: 'labs', event: 'request.refused' });
    expect(() => expect(bed.trace).toHaveAudited({ by: 'labs', code: 40903 })).toThrow('- labs request.served');
    expect(() => expect(bed.trace).toHaveAudited({})).toThrow('at least one member');
  });

  it.each([undefined, null, {}, 'trace', []])('take a trace and nothing else: %j', (value) => {
    expect(() => expect(value).toStayOnPatient()).toThrow('expect(bed.trace)');
    expect(() => expect(value).toHaveAudited({ event: 'request.served' })).toThrow('expect(bed.trace)');
  });
});
