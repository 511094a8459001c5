import { META } from '@hmcp/core';

/** Serves one request. */
export type Serve = (request: Request) => Promise<Response>;

/**
 * What befalls one call on its way.
 * - `request lost`: whoever is called never hears of it · `answer lost`: it has done it, nobody hears that
 * - `sent twice`: answered, it gets the call again, as when a proxy repeats it; the first answer counts
 * - `overtaken`: it arrives when a later call of the same operation there has been answered, even if its caller went away meanwhile
 * - `{ delayMs }`: the clock of the testbed moves on by so many milliseconds before it arrives
 * - `context lost`: something on the way drops the envelope from `_meta`
 * - `stale answer`: a cache on the way answers with what it answered last, whoever that was about; it is not asked
 * - `crash`: the agent's process ends when it asks the next agent or the FHIR server, or else with its answer made, and starts anew
 *   without memory. What it had written to its audit, or to a store of your own, stays
 */
export type Fault =
  | 'request lost'
  | 'answer lost'
  | 'sent twice'
  | 'overtaken'
  | 'context lost'
  | 'stale answer'
  | 'crash'
  | { readonly delayMs: number };

const NAMED: readonly Fault[] = [
  'request lost',
  'answer lost',
  'sent twice',
  'overtaken',
  'context lost',
  'stale answer',
  'crash',
];

/** @throws {TypeError} for what is no fault: a test without a fault that thinks it has one would prove nothing */
export function checkFault(fault: Fault): void {
  if (NAMED.includes(fault)) return;
  const delayMs = typeof fault === 'object' && fault !== null ? fault.delayMs : undefined;
  if (delayMs === undefined)
    throw new TypeError(`a fault is ${NAMED.map((one) => `"${one}"`).join(', ')} or { delayMs }; this is none of them`);
  if (!(Number.isFinite(delayMs) && delayMs >= 0))
    throw new TypeError('"delayMs" must be a number of milliseconds, and must not be negative');
}

/** An answer as it was on the wire. */
export interface WireCopy {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

/** The fault of one call, with what it needs. */
export interface Suffering {
  readonly fault: Fault;
  /** Resolves when a later call of the same operation has been answered. */
  readonly overtaken: Promise<void>;
  /** What was answered last when the fault was asked for. */
  readonly stale: WireCopy | undefined;
}

interface Wanted extends Suffering {
  readonly place: string;
  readonly overtake: () => void;
}

/** The faults a test asked for; each befalls one call. */
export class Faults {
  #wanted: Wanted[] = [];
  #behind: Wanted[] = [];
  readonly #answers = new Map<string, WireCopy>();

  /**
   * Lets a fault befall the next call of an operation.
   * @returns whether it has
   * @throws {TypeError} for a `stale answer` where nothing was answered yet
   */
  add(to: string, operation: string, fault: Fault): () => boolean {
    const place = `${to} ${operation}`;
    const stale = this.#answers.get(place);
    if (fault === 'stale answer' && stale === undefined)
      throw new TypeError(`${to} has not answered "${operation}" yet: there is no earlier answer`);
    let overtake = (): void => undefined;
    const overtaken = new Promise<void>((resolve) => {
      overtake = resolve;
    });
    const wanted = { fault, place, overtaken, stale, overtake };
    this.#wanted.push(wanted);
    return () => !this.#wanted.includes(wanted);
  }

  /** The fault of a call that has just been sent. */
  of(to: string, operation: string): Suffering | undefined {
    const wanted = this.#wanted.find(({ place }) => place === `${to} ${operation}`);
    if (wanted === undefined) return undefined;
    this.#wanted = this.#wanted.filter((one) => one !== wanted);
    if (wanted.fault === 'overtaken') this.#behind.push(wanted);
    return wanted;
  }

  /** A call has been answered: what it overtook goes on. */
  answered(to: string, operation: string, answer: WireCopy): void {
    const place = `${to} ${operation}`;
    this.#answers.set(place, answer);
    for (const one of this.#behind) if (one.place === place) one.overtake();
    this.#behind = this.#behind.filter((one) => one.place !== place);
  }

  /** Lets everything go. */
  releaseAll(): void {
    for (const one of this.#behind.splice(0)) one.overtake();
  }
}

/** What a fault can do to the world around a call. */
export interface World {
  serve: Serve;
  /** Lets time pass, ms. */
  advance(ms: number): void;
  /** Resolves when whoever serves has died of this call and has started anew. */
  crash(work: () => Promise<unknown>): Promise<void>;
}

/** Serves a request as its fault has it. @throws {TypeError} as `fetch` does, when nothing comes back */
export async function suffer(suffering: Suffering | undefined, request: Request, body: string, world: World): Promise<Response> {
  if (suffering === undefined) return world.serve(request);
  const { fault, overtaken, stale } = suffering;
  const { serve } = world;
  if (typeof fault === 'object') {
    world.advance(fault.delayMs);
    return serve(request);
  }
  switch (fault) {
    case 'request lost':
      throw new TypeError('fetch failed');
    case 'answer lost':
      await (await serve(request)).text();
      throw new TypeError('fetch failed');
    case 'sent twice': {
      const again = request.clone();
      const first = await serve(request);
      const answer = await first.arrayBuffer();
      await (await serve(again)).text();
      const { status, headers } = first;
      return new Response(answer, { status, headers });
    }
    case 'overtaken':
      await overtaken;
      return serve(copyOf(request, body));
    case 'context lost':
      return serve(copyOf(request, withoutContext(body)));
    case 'stale answer': {
      const { status, type, text } = stale ?? { status: 404, type: 'application/json', text: '{}' };
      return new Response(answering(body, text), { status, headers: { 'content-type': type } });
    }
    case 'crash':
      await world.crash(async () => (await serve(request)).text());
      throw new TypeError('fetch failed');
  }
}

/** The same request, on its way whether or not somebody still waits for its answer. */
function copyOf({ url, method, headers }: Request, body: string): Request {
  return new Request(url, { method, headers, ...(body === '' ? {} : { body }) });
}

function withoutContext(body: string): string {
  if (body === '') return body;
  return JSON.stringify(JSON.parse(body), (name, value) => (name === META.context ? undefined : value));
}

/** An answer of JSON-RPC, as JSON or as events, made out as the answer to this request. */
function answering(body: string, text: string): string {
  if (body === '') return text;
  const { id } = JSON.parse(body) as { id?: unknown };
  const mine = (json: string): string => JSON.stringify({ ...JSON.parse(json), id });
  if (text.startsWith('{')) return mine(text);
  return text.replace(/^data:(.+)$/gm, (line, json: string) => (json.trim() === '' ? line : `data: ${mine(json)}`));
}
