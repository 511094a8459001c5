/** Where a process hears from its parent: `process` of one that was forked. */
export interface ParentChannel {
  on(event: 'message', listener: (message: unknown) => void): unknown;
  send?: ((message: { readonly type: string }) => unknown) | undefined;
}

/** Holds whoever passes, while it is shut. */
export interface Gate {
  pass(): Promise<void>;
}

/**
 * A gate that the parent shuts with `{ type: "hold" }` (answered `holding`) and opens with `{ type: "open" }` (answered `opened`).
 * It says `held` for each one that waits. Open at first; no clock.
 */
export function openGate(parent: ParentChannel): Gate {
  let shut = false;
  let waiting: (() => void)[] = [];
  parent.on('message', (message) => {
    const { type } = (message ?? {}) as { type?: unknown };
    if (type === 'hold') {
      shut = true;
      parent.send?.({ type: 'holding' });
    }
    if (type === 'open') {
      shut = false;
      const released = waiting;
      waiting = [];
      for (const go of released) go();
      parent.send?.({ type: 'opened' });
    }
  });
  return {
    pass: () =>
      shut
        ? new Promise((resolve) => {
            waiting.push(resolve);
            parent.send?.({ type: 'held' });
          })
        : Promise.resolve(),
  };
}
