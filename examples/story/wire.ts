import type { RecordedExchange } from '@hmcp/cli/world';
import { META } from '@hmcp/core';

/** A request about a patient as it stood on the wire. */
export interface SentContext {
  readonly to: string;
  readonly envelope: Readonly<Record<string, unknown>>;
  readonly intent: string;
  readonly epoch: number | undefined;
}

/** Everything that passed the proxies of a world, as far as scenes ask for it. */
export class Wire {
  readonly sent: SentContext[] = [];
  #waiting: { readonly to: string; readonly resolve: (exchange: RecordedExchange) => void }[] = [];

  /** Takes down one exchange. */
  readonly see = (exchange: RecordedExchange): void => {
    const context = contextOf(exchange);
    if (context !== undefined) this.sent.push(context);
    const told = this.#waiting.filter(({ to }) => to === exchange.to);
    this.#waiting = this.#waiting.filter(({ to }) => to !== exchange.to);
    for (const { resolve } of told) resolve(exchange);
  };

  /** The next exchange with a party that ends from now on. */
  next(to: string): Promise<RecordedExchange> {
    return new Promise((resolve) => this.#waiting.push({ to, resolve }));
  }

  /** Intents that were sent with more than one epoch: there must be none. */
  restamped(): string[] {
    const epochs = new Map<string, Set<number | undefined>>();
    for (const { intent, epoch } of this.sent) epochs.set(intent, (epochs.get(intent) ?? new Set()).add(epoch));
    return [...epochs].filter(([, seen]) => seen.size > 1).map(([intent]) => intent);
  }
}

function contextOf({ to, requestBody }: RecordedExchange): SentContext | undefined {
  try {
    const { params } = JSON.parse(requestBody.toString('utf8')) as { params?: { _meta?: Record<string, unknown> } };
    const envelope = params?._meta?.[META.context] as { intent?: { id?: unknown; epoch?: unknown } } | undefined;
    if (typeof envelope?.intent?.id !== 'string') return undefined;
    const epoch = typeof envelope.intent.epoch === 'number' ? envelope.intent.epoch : undefined;
    return { to, envelope, intent: envelope.intent.id, epoch };
  } catch {
    return undefined;
  }
}
