import type { Faults } from './fault.js';
import type { Holds } from './held.js';
import type { Interleaving } from './interleaving.js';
import type { Look } from './network.js';
import { callsTool, type TraceBook } from './trace.js';

/** What requests of a testbed meet on their way. */
export interface PassageParts {
  readonly trace: TraceBook;
  readonly holds: Holds;
  readonly faults: Faults;
  /** Absent while the testbed is made, and where it is off. */
  readonly interleaving: () => Interleaving | undefined;
  /** Whether what goes there is a hop; what is none is only carried. */
  readonly isHop: (to: string) => boolean;
  /** Whether what goes there is looked at, and counts as a step: a manager's dialog names the next patient, as it must. */
  readonly isJudged: (to: string) => boolean;
  /** Whether what a party sends is the test's own. */
  readonly isTest: (from: string) => boolean;
  /** Whether tools called there are called beside, too. */
  readonly isRepeated: (from: string, to: string) => boolean;
}

/** Writes every hop down, stops it where it is held, lets its fault befall it, and lets go on beside it what does. */
export function passages(parts: PassageParts): Look {
  const { trace, holds, faults, isHop, isJudged, isTest, isRepeated } = parts;
  return (from, to, request, body) => {
    if (!isHop(to)) return undefined;
    const interleaving = parts.interleaving();
    const aside = interleaving?.owns(request) ?? false;
    const judged = isJudged(to);
    const hop = trace.sent({ from, to, request, body, judged, byTest: isTest(from), aside });
    if (hop === undefined) return undefined;
    const { operation } = hop;
    if (aside) {
      const piece = async (text: string): Promise<void> => {
        await hop.piece(text);
        await interleaving?.pass(request);
      };
      return { ...hop, before: async () => undefined, piece, after: async () => undefined };
    }
    const stop = holds.of(to, operation);
    const repeated = isRepeated(from, to) && callsTool(body);
    const beside = repeated ? interleaving?.beside(request, body, hop.repeated) : undefined;
    return {
      ...hop,
      fault: faults.of(to, operation),
      before: async () => {
        await beside?.before();
        await stop.pass('request');
        beside?.leave();
      },
      piece: async (text) => {
        await hop.piece(text);
        if (judged) await interleaving?.step();
        await stop.pass('answer');
        if (judged) interleaving?.follow();
      },
      after: async () => {
        faults.answered(to, operation, hop.copy());
        await beside?.after();
      },
      broken: () => {
        hop.broken();
        beside?.after();
      },
    };
  };
}
