import type { Drained, SessionWork } from '@hmcp/core';
import type { EpochMemory, LiveRequest } from './epoch-memory.js';

/** The session work of one deployment, by what its memory knows to be live. */
export function sessionWork(epochs: EpochMemory): SessionWork {
  return {
    inflight: (session, epoch) => epochs.requests(session, epoch).length,
    drain: (session, epoch, patienceMs) => drainRequests(epochs.requests(session, epoch), patienceMs),
    learned(session, epoch) {
      epochs.learn(session, epoch);
    },
  };
}

/** Ends requests for a switch; what is not told in time is counted by how it was begun. */
async function drainRequests(
  requests: readonly LiveRequest[],
  patience: number,
): Promise<Pick<Drained, 'cancelled' | 'completed' | 'indeterminate'>> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(resolve, patience, 'late');
    timer.unref();
  });
  const ended = requests.map(async (request) => {
    const wasBusy = request.busy();
    const how = await Promise.race([request.drain(), late]);
    const known = how !== 'late' ? how : wasBusy ? 'completed' : 'cancelled';
    return { intent: request.intent, how: request.busy() ? ('indeterminate' as const) : known };
  });
  const found = await Promise.all(ended);
  clearTimeout(timer);
  const those = (which: 'cancelled' | 'completed' | 'indeterminate') => found.filter(({ how }) => how === which);
  return {
    cancelled: those('cancelled').length,
    completed: those('completed').length,
    indeterminate: those('indeterminate').map(({ intent }) => intent),
  };
}
