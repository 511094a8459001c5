import type { Grant } from '@hmcp/auth';
import type { PatientContext, SwitchOutcome } from '@hmcp/core';
import type { SwitchAnswer, SwitchDialog } from './switch-dialog.js';

/** How the person goes to the next patient. */
export interface SwitchRequest {
  /** Gets a new grant, for the next patient: usually another launch. A token pins one patient, so the old one never serves. */
  readonly authorize: () => Promise<Grant>;
  /** Shows the dialog to the person and gives what they typed. Must reach a person: no model may answer it. */
  readonly confirm: (dialog: SwitchDialog) => Promise<SwitchAnswer>;
  /** Gives the switch up while it still can be. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * How a switch ended. On anything but `committed` the session is where it was, and nothing is lost.
 * - `committed`: the session is on the next patient, with a new epoch
 * - `unchanged`: the grant is for the patient (and encounter) the session is on
 * - `aborted`: the person, a participant, a time limit or a callback ended it
 * - `refused`: the manager did not allow it; `reason` is the name of the refusal's code
 * - `pending`: the manager could not say. The session delivers nothing; its next call asks again
 */
export interface SwitchReport {
  readonly result: 'committed' | 'unchanged' | 'aborted' | 'refused' | 'pending';
  /** A fixed word of the machine, absent when committed; `explainSwitch` makes it a sentence for a person. */
  readonly reason?: string | undefined;
  readonly switchId: string;
  /** The session's now. */
  readonly epoch: number;
  /** Unsaved items of participants that were saved, and that were not. */
  readonly saved: number;
  readonly lost: number;
  /** Intents whose effect was sent and never answered: the person has to look. */
  readonly indeterminate: readonly string[];
  /** Participants that left the session; they may join again. */
  readonly evicted: readonly string[];
  /** Whether the grant that is of no more use was revoked: the old one after a commit, else the new one. */
  readonly revoked: boolean;
  /** What a callback threw, or the refusal. */
  readonly error?: unknown;
}

/** What a session asks its authority to decide. */
export interface SwitchProposal {
  readonly switchId: string;
  readonly expectedEpoch: number;
  readonly target: PatientContext;
  readonly grant: Grant;
  /** The grant of the patient the session is on. */
  readonly current: Grant;
  readonly signal: AbortSignal;
  readonly confirm: SwitchRequest['confirm'];
  /** From here nothing is delivered: resolves when what was already let through has arrived. */
  hold(): Promise<void>;
  /** Delivering goes on as before. */
  release(): void;
}

/** What the authority decided. */
export type SwitchDecision =
  | { readonly result: 'committed'; readonly epoch: number; readonly seal?: string | undefined; readonly outcome?: SwitchOutcome }
  | {
      readonly result: 'aborted' | 'unchanged';
      readonly reason: string;
      readonly outcome?: SwitchOutcome;
      readonly error?: unknown;
    }
  | { readonly result: 'refused'; readonly reason: string; readonly error: unknown }
  | { readonly result: 'pending'; readonly reason: string };

/** Who decides about a session's switches: a context manager, or the orchestrator itself. */
export interface SwitchAuthority {
  decide(proposal: SwitchProposal): Promise<SwitchDecision>;
}

/** Puts a dialog to the person; what throws, or comes after the switch was given up, is a decline. */
export async function askPerson(
  { confirm, signal }: Pick<SwitchProposal, 'confirm' | 'signal'>,
  dialog: SwitchDialog,
): Promise<{ readonly answer: SwitchAnswer; readonly error?: unknown }> {
  let stop: () => void = () => undefined;
  const givenUp = new Promise<'decline'>((resolve) => {
    stop = () => resolve('decline');
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    if (signal.aborted) return { answer: 'decline' };
    const answer = await Promise.race([confirm(dialog), givenUp]);
    return { answer: typeof answer === 'object' && answer !== null ? answer : 'decline' };
  } catch (error) {
    return { answer: 'decline', error };
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
