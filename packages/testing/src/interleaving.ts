import { AsyncLocalStorage } from 'node:async_hooks';
import type { TokenExchanger } from '@hmcp/auth';
import { type AuditRecord, canChange, META, parseScopes } from '@hmcp/core';
import { decodeJwt } from 'jose';
import { type BearerClaims, bearerClaims } from './bearer-claims.js';
import type { Double } from './double.js';
import type { TestPerson } from './people.js';
import type { Stillness } from './stillness.js';
import { readAnswer, type WireAnswer } from './wire-answer.js';

/** What goes on beside one real call. */
export interface Beside {
  /** Asks the same about the double: once to the end, and once until its first answer waits. */
  before(): Promise<void>;
  /** Lets the second one end. */
  after(): Promise<void>;
}

/** How an interleaved call ended; `broken` when nothing came back. */
export type BesideOutcome = WireAnswer | 'broken';

/** What interleaving is done with. */
export interface InterleavingParts {
  /** By patient id. */
  readonly doubles: ReadonlyMap<string, Double>;
  /** An access token of a launch for somebody, at the client that calls. */
  readonly launch: (person: TestPerson) => Promise<string>;
  readonly tokens: TokenExchanger;
  /** The network of the client that calls. */
  readonly fetch: typeof globalThis.fetch;
  readonly stillness: Stillness;
}

/**
 * Runs every call of a client interleaved with like calls about a second patient: before it, and across it. The call across goes on by
 * one answer whenever a real answer comes, so that whatever an agent keeps from before an answer until after it is overwritten by then.
 * Calls with a scope that can change something are left alone, and those beside have no session, so that they can cause nothing.
 */
export class Interleaving {
  readonly #parts: InterleavingParts;
  readonly #gates = new Map<string, Gate | undefined>();
  readonly #intents = new Set<string>();
  readonly #end = new AbortController();
  /** Runs work as if nobody had asked for it: it must not find itself inside the call it goes beside. */
  readonly #apart = AsyncLocalStorage.snapshot();

  constructor(parts: InterleavingParts) {
    this.#parts = parts;
  }

  /** What goes on beside a call; `undefined` for what is not repeated. @param repeated told that it is, and how each call beside it ended */
  beside(request: Request, body: string, repeated: () => (outcome: BesideOutcome) => void): Beside | undefined {
    const token = bearerClaims(request);
    const double = this.#parts.doubles.get(token?.patient ?? '');
    if (token === undefined || double === undefined || canChange(parseScopes(token.scope))) return undefined;
    const { stillness } = this.#parts;
    const done = repeated();
    const ask = (gate?: Gate): Promise<void> => this.#apart(() => this.#ask({ request, body, token, double, gate })).then(done);
    const gate = new Gate(stillness);
    let across: Promise<void> | undefined;
    return {
      before: async () => {
        await stillness.settled(ask());
        const reached = gate.reached();
        across = ask(gate).finally(() => gate.over());
        await stillness.settled(reached);
      },
      after: async () => {
        gate.open();
        if (across !== undefined) await stillness.settled(across);
      },
    };
  }

  /** True for a request that goes on beside another. */
  owns(request: Request): boolean {
    return this.#gates.has(bearerClaims(request)?.txn ?? '');
  }

  /** True for a record of what goes on beside. */
  recorded({ txn, intent }: AuditRecord): boolean {
    return this.#gates.has(txn ?? '') || this.#intents.has(intent ?? '');
  }

  /** An answer to a request that goes on beside may pass. */
  async pass(request: Request): Promise<void> {
    await this.#gates.get(bearerClaims(request)?.txn ?? '')?.pass();
  }

  /** A real answer has come: each call that goes on beside goes on by one, until it waits again. */
  async step(): Promise<void> {
    await Promise.all([...this.#gates.values()].map((gate) => gate?.step()));
  }

  /** Ends everything. */
  close(): void {
    this.#end.abort();
    for (const gate of this.#gates.values()) gate?.open();
  }

  /** Asks once about the double, with a launch, a token and an intent of its own. Never rejects. */
  async #ask(call: Call): Promise<BesideOutcome> {
    const { request, body, token, double, gate } = call;
    const { launch, tokens, fetch } = this.#parts;
    try {
      const subjectToken = await launch(double.person);
      this.#gates.set(`${decodeJwt(subjectToken).jti}`, gate);
      const { accessToken } = await tokens.exchange({ subjectToken, resource: token.aud, scope: token.scope });
      const intent = crypto.randomUUID();
      this.#intents.add(intent);
      const response = await fetch(request.url, {
        method: request.method,
        headers: besideHeaders(request, accessToken, double),
        body: besideBody(body, double, intent),
        signal: this.#end.signal,
      });
      return readAnswer(response.status, await response.text());
    } catch {
      return 'broken';
    }
  }
}

interface Call {
  readonly request: Request;
  readonly body: string;
  readonly token: BearerClaims;
  readonly double: Double;
  readonly gate: Gate | undefined;
}

/** Where the answers of one call wait. Whoever waits while nothing else happens goes on: nothing stands still because of this. */
class Gate {
  readonly #stillness: Stillness;
  readonly #waiting = new Set<() => void>();
  /** Told when an answer waits, or the call is over. */
  readonly #lookers = new Set<() => void>();
  #open = false;

  constructor(stillness: Stillness) {
    this.#stillness = stillness;
  }

  /** Resolves when an answer waits here next, or the call is over. */
  reached(): Promise<void> {
    return new Promise((resolve) => this.#lookers.add(resolve));
  }

  async pass(): Promise<void> {
    if (this.#open) return;
    const stepped = new Promise<void>((resolve) => this.#waiting.add(resolve));
    wake(this.#lookers);
    await this.#stillness.settled(stepped);
  }

  /** What waits goes on, until it waits again. */
  async step(): Promise<void> {
    if (this.#waiting.size === 0) return;
    const again = this.reached();
    wake(this.#waiting);
    await this.#stillness.settled(again);
  }

  /** Nothing waits here any more. */
  open(): void {
    this.#open = true;
    wake(this.#waiting);
  }

  /** The call is over. */
  over(): void {
    this.open();
    wake(this.#lookers);
  }
}

function wake(sleepers: Set<() => void>): void {
  const all = [...sleepers];
  sleepers.clear();
  for (const one of all) one();
}

function besideHeaders(request: Request, accessToken: string, double: Double): Headers {
  const headers = new Headers();
  for (const [name, value] of request.headers)
    if (!['content-length', 'traceparent'].includes(name)) headers.set(name, `${double.rewrite(value)}`);
  headers.set('authorization', `Bearer ${accessToken}`);
  return headers;
}

/** The same message about the double: plain envelope, own intent, the arguments rewritten. */
function besideBody(body: string, double: Double, intent: string): string {
  const message = JSON.parse(body) as { params?: { arguments?: unknown; _meta?: Record<string, unknown> } };
  const { params = {} } = message;
  const context = { version: '1', patient: double.person.id, intent: { id: intent } };
  return JSON.stringify({
    ...message,
    id: intent,
    params: {
      ...params,
      ...(params.arguments === undefined ? {} : { arguments: double.rewrite(params.arguments) }),
      _meta: { ...params._meta, [META.context]: context },
    },
  });
}
