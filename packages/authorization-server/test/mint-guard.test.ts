import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assertPinned, UnpinnedToken } from '../src/mint-guard.js';

describe('the mint guard', () => {
  it.each([
    [{ scope: 'patient/*.rs', patient: 'a1' }],
    [{ scope: 'launch/patient openid' }],
    [{ scope: 'system/*.rs hmcp:read' }],
    [{}],
  ])('lets %j pass', (claims) => {
    expect(() => assertPinned(claims)).not.toThrow();
  });

  it.each([
    [{ scope: 'patient/*.rs' }],
    [{ scope: 'openid patient/hmcp:read' }],
    [{ scope: 'patient/' }],
    [{ scope: 'patient/observation.dus' }],
    [{ scope: 'openid\tpatient/*.rs' }],
    [{ scope: 'Patient/*.rs' }],
    [{ scope: ['patient/*.rs'] }],
    [{ scope: 'patient/*.rs', patient: '' }],
    [{ scope: 'patient/*.rs', patient: 'Patient/a1' }],
    [{ scope: 'patient/*.rs', patient: ['a1'] }],
    [{ scope: 'patient/*.rs', patient: null }],
    [{ scope: 'patient/*.rs', patient: 'a'.repeat(65) }],
    [{ scope: 'openid', patient: 'https://ehr.example/Patient/a1' }],
  ])('throws for %j', (claims) => {
    expect(() => assertPinned(claims)).toThrow(UnpinnedToken);
  });

  it('lets no scope with a patient member through without a patient, whatever stands around it', () => {
    fc.assert(
      fc.property(fc.array(fc.string()), fc.string(), (around, tail) => {
        const scope = [...around, `patient/${tail}`].join(' ');
        expect(() => assertPinned({ scope })).toThrow(UnpinnedToken);
      }),
    );
  });
});
