import type { Grant, TrustedManager } from '@hmcp/auth';
import {
  type AbortReason,
  ERRORS,
  HmcpError,
  MANAGER_METHODS,
  MANAGER_TOOLS,
  SessionFacts,
  type SwitchOutcome,
  SwitchResult,
} from '@hmcp/core';
import type { AgentParts } from './agent-parts.js';
import { isDefinite, type ManagerCall, type ToolReply } from './manager-client.js';
import { lacksSessionScope, OWNER_SCOPE } from './managers.js';
import { askPerson, type SwitchAuthority, type SwitchDecision, type SwitchProposal } from './patient-switch.js';
import { readDialog, replyOf } from './switch-dialog.js';

/** Rounds of asking before a switch is given up: the manager itself allows three wrong answers. */
const MAX_ROUNDS = 8;
/** Times an unanswered request is repeated, with the same `switchId`. */
const MAX_FAILURES = 3;
/** Milliseconds a switch can take at most at the manager, with some spare: then it is decided, whoever hears of it. */
const DECIDED_AFTER_MS = 200_000;
/** Looks at a row that is being decided, before giving up for now. */
const MAX_LOOKS = 64;
/** A switch may survey and drain before it answers. */
const SWITCH_TIMEOUT_MS = 60_000;
const LONGEST_PAUSE_MS = 5_000;
const DRAIN_WAIT_MS = 5_000;

/** Decides switches of one session at its manager, and can ask later how one ended. */
export interface ManagerAuthority extends SwitchAuthority {
  /** Asks once how a switch ended, by any of these grants; `pending` when the manager still cannot say. */
  outcomeOf(switchId: string, grants: readonly Grant[]): Promise<SwitchDecision>;
}

/**
 * The initiator's side of the handshake. A request that was not answered is repeated with the same `switchId`; after the person's
 * confirmation went out only the manager's row tells how it ended, and nothing is ever taken for failed.
 * @param by who refuses, when this process does
 * @see protocol section 6
 */
export function managerAuthority(parts: AgentParts, manager: TrustedManager, sid: string, by: string): ManagerAuthority {
  const client = parts.managers.client(manager);
  const callWith = (grant: Grant, more: Partial<ManagerCall> = {}): ManagerCall => ({
    token: () => parts.managers.token(manager, grant.accessToken, OWNER_SCOPE),
    ...more,
  });

  async function decide(proposal: SwitchProposal): Promise<SwitchDecision> {
    const { switchId, expectedEpoch, target, grant, signal } = proposal;
    const lacks = lacksSessionScope(grant, by);
    if (lacks !== undefined) return refusedBy(lacks);
    const encounter = target.encounter === undefined ? {} : { encounter: target.encounter };
    const args = { sid, switchId, expectedEpoch, target: { patient: target.patient, ...encounter } };
    let reply: ToolReply = {};
    let confirmed = false;
    let begun = false;
    let failures = 0;
    let thrown: unknown;
    for (let round = 1; round <= MAX_ROUNDS; ) {
      let answer: Awaited<ReturnType<typeof client.tool>>;
      try {
        answer = await client.tool(MANAGER_TOOLS.switch, args, callWith(grant, { timeoutMs: SWITCH_TIMEOUT_MS }), reply);
      } catch (error) {
        if (isDefinite(error) && !begun) return refusedBy(error);
        if (isDefinite(error)) return settle(proposal, confirmed, error);
        begun = true;
        failures += 1;
        if (confirmed || failures >= MAX_FAILURES) return settle(proposal, confirmed, error);
        await parts.wait(pauseMs(failures));
        reply = {};
        continue;
      }
      if ('result' in answer) {
        const decision = read(answer.result, switchId);
        return decision === undefined ? settle(proposal, confirmed) : withError(decision, thrown);
      }
      // The manager waits for the person: a confirmation sent before was not accepted, and its dialog is no longer open.
      begun = true;
      confirmed = false;
      proposal.release();
      const dialog = readDialog(answer.requests);
      if (dialog === undefined) return settle(proposal, confirmed, unreadable());
      const { message, fields } = dialog;
      const said = await askPerson(proposal, { message, fields, round, target });
      thrown = said.error;
      if (said.answer !== 'decline' && !signal.aborted) {
        await proposal.hold();
        confirmed = true;
      }
      reply = { inputResponses: replyOf(dialog, confirmed ? said.answer : 'decline'), requestState: answer.requestState };
      round += 1;
    }
    return settle(proposal, confirmed);
  }

  /**
   * Something may be pending at the manager: learns how it ended, or ends it. Undecided means abort. Once confirmed, only the row
   * says that it did not happen.
   */
  async function settle(proposal: SwitchProposal, confirmed: boolean, error?: unknown): Promise<SwitchDecision> {
    const { switchId, grant, current } = proposal;
    const until = parts.now() + DECIDED_AFTER_MS;
    let failures = 0;
    for (let looks = 0; looks < MAX_LOOKS && parts.now() < until; looks += 1) {
      try {
        const decision = await inquire(switchId, [grant, current]);
        if (decision !== undefined) return withError(decision, error);
      } catch (problem) {
        if (isDefinite(problem) && !confirmed) return refusedBy(error ?? problem);
        failures += 1;
        if (failures >= MAX_ROUNDS) break;
        await parts.wait(pauseMs(failures));
      }
    }
    return { result: 'pending', reason: 'unavailable' };
  }

  /** One look at the row; `undefined` while it is being decided. */
  async function inquire(switchId: string, grants: readonly Grant[]): Promise<SwitchDecision | undefined> {
    const { facts, grant } = await look(switchId, grants);
    if (facts.outcome?.switchId === switchId) return decided(facts.outcome, facts.epoch, facts.seal);
    if (facts.pending?.switchId !== switchId) return { result: 'aborted', reason: 'unavailable' satisfies AbortReason };
    if (facts.state === 'draining') {
      await get(grant, { switchId, rev: facts.rev, waitMs: DRAIN_WAIT_MS });
      return undefined;
    }
    const answer = await client.tool(MANAGER_TOOLS.abort, { sid, switchId }, callWith(grant));
    return 'result' in answer ? read(answer.result, switchId) : undefined;
  }

  /** Whichever patient a token of the owner names, it may ask. */
  async function look(switchId: string, grants: readonly Grant[]): Promise<{ facts: SessionFacts; grant: Grant }> {
    let refusal: unknown;
    for (const grant of grants) {
      try {
        return { facts: await get(grant, { switchId }), grant };
      } catch (error) {
        if (!isDefinite(error)) throw error;
        refusal ??= error;
      }
    }
    throw refusal;
  }

  async function get(grant: Grant, more: object): Promise<SessionFacts> {
    return client.read(SessionFacts, await client.method(MANAGER_METHODS.get, { sid, ...more }, callWith(grant)));
  }

  /** `undefined`: not known to the one who answered. */
  function read(answer: unknown, switchId: string): SwitchDecision | undefined {
    const result = SwitchResult.safeParse(answer);
    if (!result.success || result.data.sid !== sid || result.data.switchId !== switchId) return undefined;
    const { result: ended, epoch, seal } = result.data;
    return ended === 'pending' ? undefined : decided({ ...result.data, result: ended }, epoch, seal);
  }

  return {
    decide,
    async outcomeOf(switchId, grants) {
      const decision = await inquire(switchId, grants).catch(() => undefined);
      return decision ?? { result: 'pending', reason: 'unavailable' };
    },
  };
}

function decided(outcome: SwitchOutcome, epoch: number, seal: string | undefined): SwitchDecision {
  const { result, reason } = outcome;
  // A later switch may have moved on: the seal is of the epoch of this answer, not of this switch.
  if (result === 'committed') return { result, epoch: outcome.epoch, seal: epoch === outcome.epoch ? seal : undefined, outcome };
  return { result, reason: reason ?? result, outcome };
}

function refusedBy(error: unknown): SwitchDecision {
  const reason = error instanceof HmcpError ? ERRORS[error.code].name : 'unavailable';
  return { result: 'refused', reason, error };
}

function withError(decision: SwitchDecision, error: unknown): SwitchDecision {
  return decision.result === 'aborted' && error !== undefined ? { ...decision, error } : decision;
}

function unreadable(): Error {
  return new Error('the dialog of the manager cannot be shown');
}

function pauseMs(failures: number): number {
  return Math.min(250 * 2 ** (failures - 1), LONGEST_PAUSE_MS);
}
