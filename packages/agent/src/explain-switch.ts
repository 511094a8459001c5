import { AbortReason, HmcpError, meaningOf } from '@hmcp/core';
import type { SwitchReport } from './patient-switch.js';

/** Why a switch did not happen, for the person at the screen. */
const BECAUSE: Readonly<Record<AbortReason, string>> = {
  aborted: 'the switch was given up',
  declined: 'it was not confirmed',
  confirmation: 'what was typed did not fit the next patient, three times',
  vetoed: 'a program that takes part cannot let go of this patient now',
  deadline: 'it was not confirmed in time',
  authorization: 'the sign-in for the next patient failed, ended, or was of somebody else',
  unavailable: 'a service that it needs did not answer',
  restart: 'the service that decides was started anew meanwhile',
};

/**
 * How a switch ended, as a sentence for the person at the screen, which names nobody. The machine's own word stands in brackets.
 * @see protocol section 6
 */
export function explainSwitch(report: Pick<SwitchReport, 'result' | 'reason' | 'saved' | 'lost' | 'error'>): string {
  const { result, reason, saved, lost } = report;
  if (result === 'committed') return `The next patient is open.${saved + lost === 0 ? '' : ` ${saved} saved, ${lost} lost.`}`;
  if (result === 'unchanged') return 'That patient is open already; nothing changed.';
  if (result === 'pending') return 'Nobody can say yet who is open; nothing is shown until somebody can.';
  const because = result === 'refused' ? refusedBecause(report.error) : abortedBecause(reason);
  return `Still on the same patient, nothing lost: ${because} (${reason ?? result}).`;
}

function refusedBecause(error: unknown): string {
  const refusal = HmcpError.from(error);
  return refusal === undefined ? BECAUSE.unavailable : meaningOf(refusal.code, refusal.check).says;
}

function abortedBecause(reason: unknown): string {
  const known = AbortReason.safeParse(reason);
  return known.success ? BECAUSE[known.data] : BECAUSE.aborted;
}
