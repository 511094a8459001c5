import type { SwitchTarget } from '@hmcp/core';
import { type At, open, type Proposal, type Step } from '../../src/machine.js';
import type { Session, Subject } from '../../src/session-row.js';
import { TIMING } from '../../src/timing.js';
import { T0 } from './clock.js';

const BASE = 'https://fhir.example/r4';

/** Somebody's record; `pk` is a name padded to its length. */
export function subject(patient: string, encounter?: string): Subject {
  const pk = patient.padEnd(43, '0');
  return { fhirServer: BASE, patient, pk, ...(encounter === undefined ? {} : { encounter }) };
}

/** Decisions at a time after T0, in ms. */
export function at(ms = 0): At {
  return { now: T0 + ms, timing: TIMING, by: { by: 'https://manager.example/mcp' } };
}

/** A session on A, epoch 1, with the members given. */
export function session(...members: ['reader' | 'effector', string][]): Session {
  const owner = { issuer: 'https://as.example', subject: 'alice' };
  const opening = { sid: 'ctx_1', owner, client: 'portal', subject: subject('A'), participants: members.map(([, id]) => id) };
  const opened = open(opening, at()).session;
  return {
    ...opened,
    members: members.map(([role, clientId]) => ({ clientId, role, delivery: 'pull' as const, joinedEpoch: 1 })),
  };
}

/** A proposal to switch to somebody, from epoch 1. */
export function to(patient: SwitchTarget['patient'] | Subject | null, more: Partial<Proposal> = {}): Proposal {
  const target = typeof patient === 'string' ? subject(patient) : patient;
  return { switchId: 's1', kind: target === null ? 'close' : 'switch', expectedEpoch: 1, target, effectors: false, ...more };
}

/** The next row of a step that moved. */
export function next(step: Step): Session {
  if (step.is !== 'moved') throw new Error(`the step ${step.is === 'same' ? 'changed nothing' : `was refused ${step.code}`}`);
  return step.next;
}

/** The code of a step that was refused; else what it was. */
export function code(step: Step): number | string {
  return step.is === 'refused' ? step.code : step.is;
}
