import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { definePatientTool, isEffect } from '../src/index.js';

const tool = {
  name: 'list-results',
  description: 'x',
  scope: 'patient/Observation.rs',
  input: z.object({}),
  output: z.object({}),
};

describe('definePatientTool', () => {
  it.each([
    ['the usual', {}],
    ['onward scopes', { scope: 'patient/hmcp:read', onward: 'patient/Observation.rs patient/MedicationRequest.rs' }],
    ['access without a patient', { scope: 'hmcp:access' }],
    ['a name with every sign', { name: 'A.b_c-9' }],
  ])('takes %s', (_what, more) => expect(definePatientTool({ ...tool, ...more })).toEqual({ ...tool, ...more }));

  it.each([
    ['an empty name', { name: '' }, /"name"/],
    ['a name with a space', { name: 'list results' }, /"name"/],
    ['a long name', { name: 'x'.repeat(129) }, /"name"/],
    ['an empty scope', { scope: '' }, /"scope".*empty.*40303 operation_undeclared.*Mend: declare it/],
    ['a blank scope', { scope: '  ' }, /"scope".*empty/],
    ['a misspelt scope', { scope: 'patient/observation.rs' }, /"scope".*"patient\/observation\.rs"/],
    ['one misspelt scope of two', { scope: 'patient/Observation.rs patient/Condition.sr' }, /patient\/Condition\.sr/],
    ['a launch scope, which nobody satisfies', { scope: 'launch/patient' }, /launch\/patient/],
    ['an identity scope', { scope: 'openid' }, /openid.*403 forbidden/],
    ['a misspelt onward scope', { onward: 'patient/Observation.readwrite' }, /"onward"/],
  ])('refuses %s in a sentence', (_what, more, message) => {
    expect(() => definePatientTool({ ...tool, ...more })).toThrow(TypeError);
    expect(() => definePatientTool({ ...tool, ...more })).toThrow(message);
  });
});

describe('isEffect', () => {
  it.each([
    ['patient/Observation.rs', false],
    ['patient/*.read', false],
    ['user/Patient.s patient/hmcp:read', false],
    ['hmcp:access', false],
    ['patient/Observation.rs?category=created', false],
    ['read.write-off', false],
    ['patient/Observation.c', true],
    ['patient/Observation.cr', true],
    ['patient/Observation.d', true],
    ['patient/Observation.rus', true],
    ['patient/Observation.write', true],
    ['patient/Observation.*', true],
    ['patient/write.Task', true],
    ['write.Task', true],
    ['patient/hmcp:write', true],
    ['patient/Observation.rs patient/Task.u', true],
    ['nobody knows', true],
  ])('of "%s" is %s', (scope, effect) => expect(isEffect({ scope })).toBe(effect));

  it('is what the declaration says, but no declaration makes a write a read', () => {
    expect(isEffect({ scope: 'patient/Observation.rs', effect: true })).toBe(true);
    expect(isEffect({ scope: 'patient/Observation.cud', effect: false })).toBe(true);
  });
});
