import type { Drained, Vote } from '@hmcp/core';

/** One session as a participant knows it: volatile, learned anew after a restart. */
export class AttendedSession {
  readonly sid: string;
  /** Transitions seen; a message of an older one says nothing any more. */
  rev = 0;
  /** Highest epoch known; nothing below it is served or kept. */
  epoch = 0;
  /** It said that it cannot serve the patient being opened, so it comes back only when a request of the session does. */
  left = false;
  joining: Promise<void> | undefined;
  following = false;
  readonly #votes = new Map<string, Promise<Vote>>();
  readonly #drains = new Map<string, Promise<Drained>>();

  constructor(sid: string) {
    this.sid = sid;
  }

  /** The vote on a switch; asked once, however often the question comes. A failure is no answer, and may be asked again. */
  vote(switchId: string, ask: () => Promise<Vote>): Promise<Vote> {
    return once(this.#votes, switchId, ask);
  }

  /** The end of live work for a switch; done once. */
  drain(switchId: string, end: () => Promise<Drained>): Promise<Drained> {
    return once(this.#drains, switchId, end);
  }

  /** Goes on to an epoch; what was said of switches before is forgotten. */
  advance(epoch: number): void {
    this.epoch = epoch;
    this.#votes.clear();
    this.#drains.clear();
  }
}

function once<T>(answers: Map<string, Promise<T>>, key: string, work: () => Promise<T>): Promise<T> {
  const known = answers.get(key);
  if (known !== undefined) return known;
  const answer = work();
  answers.set(key, answer);
  answer.catch(() => answers.delete(key));
  return answer;
}
