import { AsyncLocalStorage } from 'node:async_hooks';
import type { TokenExchanger } from '@hmcp/auth';
import { type AuditRecord, canChange, META, parseScopes } from '@hmcp/core';
import { decodeJwt } from 'jose';
import { type BearerClaims, bearerClaims } from './bearer-claims.js';
import type { Double } from './double.js';
import type { TestPerson } from './people.js';
import { type Stillness, turn } from './stillness.js';
import { readAnswer, type WireAnswer } from './wire-answer.js';

/** What goes on beside one real call. */
export interface Beside {
  /** Asks the same about the double: once to the end, and once until its first answer waits. Makes one more call ready. */
  before(): Promise<void>;
  /** The real call leaves: the one that is ready leaves with it. */
  leave(): void;
  /** Lets all of it end. */
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
 * Runs every call of a client interleaved with like calls about a second patient: before it, across it, and with it. The call across
 * goes on by one answer whenever a real answer comes, so that whatever an agent keeps from before an answer until after it is
 * overwritten by then. The call with it leaves when the real one does, and goes on by one answer as soon as a real one has gone on: it
 * is asked for while an agent collects calls, and overwrites what an agent keeps over a wait of its own.
 * Calls with a scope that can change something are left alone, and those beside have no session, so that they can cause nothing.
 */
export class Interleaving {
  readonly #parts: InterleavingParts;
  readonly #gates = new Map<string, Gate | undefined>();
  readonly #intents = new Set<string>();
  readonly #following = new Set<Gate>();
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
    const ready = (gate?: Gate): Promise<Ask> => this.#apart(() => this.#ready({ request, body, token, double, gate }));
    const ended = async (ask: Promise<Ask>, gate?: Gate): Promise<void> => {
      done(await this.#apart(await ask));
      gate?.over();
    };
    const [gate, following] = [new Gate(stillness), new Gate(stillness)];
    let along: Ask | undefined;
    const underWay: Promise<void>[] = [];
    return {
      before: async () => {
        await stillness.settled(ended(ready()));
        const reached = gate.reached();
        underWay.push(ended(ready(gate), gate));
        await stillness.settled(reached);
        along = await ready(following);
      },
      leave: () => {
        if (along === undefined) return;
        this.#following.add(following);
        underWay.push(ended(Promise.resolve(along), following));
      },
      after: async () => {
        this.#following.delete(following);
        gate.open();
        following.open();
        await stillness.settled(Promise.all(underWay));
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

  /** A real answer has come: each call across goes on by one, until it waits again, and what follows has got as far as the real one. */
  async step(): Promise<void> {
    const across = [...this.#gates.values()].filter((gate) => gate !== undefined && !this.#following.has(gate));
    await Promise.all([...across.map((gate) => gate?.step()), ...[...this.#following].map((gate) => gate.here())]);
  }

  /** A real answer has gone on: what follows it does, too. */
  follow(): void {
    for (const gate of this.#following) void turn().then(() => gate.credit());
  }

  /** Ends everything. */
  close(): void {
    this.#end.abort();
    for (const gate of this.#gates.values()) gate?.open();
  }

  /** Makes one call about the double ready, with a launch, a token and an intent of its own. Nothing of it ever rejects. */
  async #ready(call: Call): Promise<Ask> {
    const { request, body, token, double, gate } = call;
    const { launch, tokens, fetch } = this.#parts;
    try {
      const subjectToken = await launch(double.person);
      this.#gates.set(`${decodeJwt(subjectToken).jti}`, gate);
      const { accessToken } = await tokens.exchange({ subjectToken, resource: token.aud, scope: token.scope });
      const intent = crypto.randomUUID();
      this.#intents.add(intent);
      const [headers, about] = [besideHeaders(request, accessToken, double), besideBody(body, double, intent)];
      const { method, url } = request;
      return async () => {
        try {
          const response = await fetch(url, { method, headers, body: about, signal: this.#end.signal });
          return readAnswer(response.status, await response.text());
        } catch {
          return 'broken';
        }
      };
    } catch {
      return async () => 'broken';
    }
  }
}

/** Sends a call that is ready. */
type Ask = () => Promise<BesideOutcome>;

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
  /** Answers that may pass though nobody waits yet. */
  #credits = 0;

  constructor(stillness: Stillness) {
    this.#stillness = stillness;
  }

  /** Resolves when an answer waits here next, or the call is over. */
  reached(): Promise<void> {
    return new Promise((resolve) => this.#lookers.add(resolve));
  }

  async pass(): Promise<void> {
    if (this.#open) return;
    if (this.#credits > 0) {
      this.#credits -= 1;
      return;
    }
    const stepped = new Promise<void>((resolve) => this.#waiting.add(resolve));
    wake(this.#lookers);
    await this.#stillness.settled(stepped);
  }

  /** Resolves when an answer waits here, or none will. */
  async here(): Promise<void> {
    if (!this.#open && this.#waiting.size === 0) await this.#stillness.settled(this.reached());
  }

  /** What waits goes on, until it waits again. */
  async step(): Promise<void> {
    if (this.#waiting.size === 0) return;
    const again = this.reached();
    wake(this.#waiting);
    await this.#stillness.settled(again);
  }

  /** One answer may pass: the one that waits, or the next. */
  credit(): void {
    if (this.#waiting.size === 0) this.#credits += 1;
    else wake(this.#waiting);
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
