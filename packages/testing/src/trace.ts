import { inspect } from 'node:util';
import { type AuditRecord, META, methodClass } from '@hmcp/core';
import { bearerClaims } from './bearer-claims.js';
import type { Canaries } from './canaries.js';
import type { WireCopy } from './fault.js';
import type { BesideOutcome } from './interleaving.js';
import type { Passage } from './network.js';
import type { TestPerson } from './people.js';
import { type Told, type Vacuity, vacuitiesOf } from './vacuity.js';
import { readAnswer } from './wire-answer.js';

/** One request that left somebody, and what became of it. */
export interface TraceHop {
  readonly from: string;
  readonly to: string;
  /** The tool, the method, or at the FHIR server the path without an id. */
  readonly operation: string;
  /** Whom its token is for. */
  readonly person: string | undefined;
  /** Of the envelope: which act of the person, at which epoch of the session. */
  readonly intent: string | undefined;
  readonly epoch: number | undefined;
  /** `failed`: a tool answered that it failed; what its handler threw stays there. `broken`: the caller went away before the answer. */
  readonly outcome: 'under way' | 'answered' | 'failed' | 'refused' | 'broken';
  readonly code?: number | undefined;
  readonly check?: string | undefined;
}

/**
 * Everything that happened in a testbed, in order. Names people: they are synthetic. What goes on beside a call, about the double of
 * its patient, is printed and judged with the rest; `hops` and `audit` are of what was asked for.
 */
export interface Trace {
  readonly hops: readonly TraceHop[];
  /** Audit records of everybody, in the order they were made. */
  readonly audit: readonly AuditRecord[];
  /** Name of the party a resource identifier is of; what it is given, for any other text. */
  nameOf(resource: string): string;
  /** Each place where something of one person got into work for another, and what, in a sentence; none when all stayed where it belongs. */
  strays(): readonly string[];
  /**
   * Which tools interleaving proved nothing about: calls of theirs were answered, and none beside them was; `undefined` when there is
   * none, or it is off.
   */
  unproven(): string | undefined;
  /** Tools whose answers about somebody never held a value of theirs: had one got into work for another, nobody could have noticed. */
  vacuities(): readonly Vacuity[];
  /** One line a hop, a switch, a delivery, a fault that was asked for. */
  toString(): string;
  /** Writes {@link toString}. @param out default standard output */
  print(out?: { write(text: string): unknown }): void;
}

interface Entry {
  readonly hop: Omit<TraceHop, 'outcome' | 'code' | 'check'>;
  /** Whom its token is for: two people may have one name. */
  readonly person: TestPerson | undefined;
  /** Whether what it carries is looked at: a manager's dialog names the next patient, as it must. */
  readonly judged: boolean;
  /** The test itself chose what was sent. */
  readonly byTest: boolean;
  /** It goes on beside another, about a double. */
  readonly aside: boolean;
  /** It asks an agent for something of the patient: a tool, a resource, a prompt. */
  readonly asks: boolean;
  readonly sent: string;
  status: number | undefined;
  type: string;
  received: string;
  broken: boolean;
}

/** A request that is leaving somebody. */
export interface Leaving {
  readonly from: string;
  readonly to: string;
  readonly request: Request;
  readonly body: string;
  readonly judged: boolean;
  readonly byTest: boolean;
  readonly aside: boolean;
}

/** How a request that was written down goes on. */
export interface Written extends Pick<Passage, 'piece' | 'status' | 'broken'> {
  readonly operation: string;
  /** Its answer, as far as it has come. */
  copy(): WireCopy;
  /** Calls go on beside it. @returns told how each ended */
  repeated(): (outcome: BesideOutcome) => void;
}

/** Writes down what happens. */
export class TraceBook implements Trace {
  readonly audit: AuditRecord[] = [];
  readonly #entries: Entry[] = [];
  readonly #lines: (() => string)[] = [];
  readonly #strays: string[] = [];
  readonly #beside: { readonly entry: Entry; readonly outcome: BesideOutcome }[] = [];
  readonly #repeated = new Set<Entry>();
  readonly #canaries: Canaries;
  readonly #people: readonly TestPerson[];
  readonly #names = new Map<string, string>();

  constructor(options: { readonly canaries: Canaries; readonly people: readonly TestPerson[] }) {
    this.#canaries = options.canaries;
    this.#people = options.people;
  }

  get hops(): readonly TraceHop[] {
    return this.#entries.filter(({ aside }) => !aside).map(hopOf);
  }

  /** From now on, records by `resource` are of the party with this name. */
  name(resource: string, name: string): void {
    this.#names.set(resource, name);
  }

  nameOf(resource: string): string {
    return this.#names.get(resource) ?? resource;
  }

  /** A request is leaving. Handshakes and tokens are no hops. */
  sent(leaving: Leaving): Written | undefined {
    const { from, to, request, body, judged, byTest, aside } = leaving;
    const operation = operationOf(request, body);
    if (operation === undefined) return undefined;
    const { intent, epoch } = intentOf(body);
    const person = this.#personOf(request);
    const hop = { from, to, operation, person: person?.name, intent, epoch };
    const more = { status: undefined, type: '', received: '', broken: false };
    const sent = `${request.url}\n${plain(request.url)}\n${body}`;
    const asks = judged && ASKING.has(messageOf(body).method);
    const entry: Entry = { hop, person, judged, byTest, aside, asks, sent, ...more };
    this.#entries.push(entry);
    this.#lines.push(() => lineOf(hopOf(entry), aside));
    return {
      operation,
      status: (status, type) => {
        entry.status = status;
        entry.type = type;
      },
      piece: async (text) => {
        entry.received += text;
      },
      broken: () => {
        entry.broken = true;
      },
      copy: () => ({ status: entry.status ?? 0, type: entry.type, text: entry.received }),
      repeated: () => {
        this.#repeated.add(entry);
        return (outcome) => {
          this.#beside.push({ entry, outcome });
        };
      },
    };
  }

  /** A session is at a person. */
  at(what: string, person: TestPerson): void {
    this.#lines.push(() => `— ${what} ${person.name}`);
  }

  /** A fault was asked for. */
  planted(what: string, befell: () => boolean): void {
    this.#lines.push(() => `— fault: ${what}${befell() ? '' : ', which befell no call'}`);
  }

  /** A value is delivered to the one who asked about `asked`, while the session is at `now`. */
  delivered(what: string, asked: TestPerson, now: TestPerson, value: unknown): void {
    const others = this.#others(asked, written(value));
    const late = asked === now ? [] : [`${what}, asked about ${asked.name}, was delivered with ${now.name} on the screen`];
    const found = [...late, ...others.map((other) => `${what} about ${asked.name} was delivered with values of ${other}`)];
    this.#strays.push(...found);
    this.#lines.push(() => `  delivered: ${what} about ${asked.name}${found.length === 0 ? '' : ' ✗ STRAY'}`);
  }

  strays(): readonly string[] {
    const mixed = this.#answeredBeside()
      .filter(({ outcome }) => outcome !== 'broken' && outcome.code === 40903)
      .map(
        ({ entry: { hop } }) =>
          `${hop.from} → ${hop.to} ${hop.operation} about ${hop.person} was answered, and the same beside it`,
      )
      .map((what) => `${what} about the double was refused 40903: something of somebody else had got into it`);
    return [...new Set([...this.#entries.flatMap((entry) => this.#straysOf(entry)), ...this.#strays, ...mixed])];
  }

  unproven(): string | undefined {
    const ends = new Map<string, Set<string>>();
    for (const { entry, outcome } of this.#answeredBeside()) {
      const tool = toolOf(entry);
      ends.set(tool, (ends.get(tool) ?? new Set()).add(endOf(outcome)));
    }
    for (const entry of this.#repeated)
      if (wasAnswered(entry) && !ends.has(toolOf(entry))) ends.set(toolOf(entry), new Set(['under way']));
    const without = [...ends].filter(([, all]) => !all.has('answered')).map(([tool, all]) => `${tool} (${[...all].join(', ')})`);
    if (without.length === 0) return undefined;
    return `no call beside the real ones was answered at ${without.join(', ')}: an agent that knows only its own people, or waits for the test, is tested with \`interleave: false\``;
  }

  vacuities(): readonly Vacuity[] {
    return vacuitiesOf(this.#entries.flatMap((entry) => this.#toldBy(entry)));
  }

  #answeredBeside(): readonly { readonly entry: Entry; readonly outcome: BesideOutcome }[] {
    return this.#beside.filter(({ entry }) => wasAnswered(entry));
  }

  toString(): string {
    return `${this.#lines.map((line) => line()).join('\n')}\n`;
  }

  print(out: { write(text: string): unknown } = process.stdout): void {
    out.write(this.toString());
  }

  /**
   * All of it is held against the person of the request. Only what the test itself sent, and was refused, stayed where it was: of what
   * an agent sent nobody can tell whether a handler had seen it before the refusal, and progress comes before a refusal, too.
   */
  #straysOf(entry: Entry): string[] {
    const { hop, person, judged, byTest, sent, received } = entry;
    if (!judged || person === undefined) return [];
    const kept = byTest && hopOf(entry).outcome === 'refused';
    const at = `${hop.from} → ${hop.to} ${hop.operation} about ${person.name}`;
    return [
      ...(kept ? [] : this.#others(person, sent).map((other) => `${at} was asked with values of ${other}`)),
      ...this.#others(person, received).map((other) => `${at} was answered with values of ${other}`),
    ];
  }

  /** Whether an answer of an agent tells whose it is. What the call held it may only have echoed, and every agent is told the id. */
  #toldBy(entry: Entry): Told[] {
    const { person, asks, aside, sent, received } = entry;
    if (!asks || person === undefined || !wasAnswered(entry)) return [];
    const given = new Set([person.id, ...this.#canaries.valuesIn(sent, person)]);
    const telling = this.#canaries.valuesIn(received, person).some((value) => !given.has(value));
    return [{ tool: toolOf(entry), person, aside, telling }];
  }

  /** Whose values stand in a text that should be of this person alone, and which. */
  #others(person: TestPerson, text: string): string[] {
    const others = this.#canaries.whoseIn(text).filter((other) => other !== person);
    return others.map((other) => `${other.name} (${few(this.#canaries.valuesIn(text, other))})`);
  }

  #personOf(request: Request): TestPerson | undefined {
    const patient = bearerClaims(request)?.patient;
    return this.#people.find(({ id }) => id === patient);
  }
}

/** The first values, and how many more there are. */
function few(values: readonly string[]): string {
  const [first, rest] = [values.slice(0, 3), values.slice(3)];
  return `${first.join(', ')}${rest.length === 0 ? '' : ` and ${rest.length} more`}`;
}

/** Everything in a value, also what JSON leaves out: a map, a set, what is not to be listed, what refers to itself. */
function written(value: unknown): string {
  return inspect(value, {
    depth: null,
    maxArrayLength: null,
    maxStringLength: null,
    breakLength: Number.POSITIVE_INFINITY,
    showHidden: true,
  });
}

/** An address as people write it: what is escaped in it is found as well. */
function plain(url: string): string {
  try {
    return decodeURIComponent(url.replaceAll('+', ' '));
  } catch {
    return url;
  }
}

function hopOf({ hop, status, received, broken }: Entry): TraceHop {
  if (status === undefined) return { ...hop, outcome: broken ? 'broken' : 'under way' };
  const { code, check, failed } = readAnswer(status, received);
  if (code !== undefined) return { ...hop, outcome: 'refused', code, ...(check === undefined ? {} : { check }) };
  return { ...hop, outcome: broken ? 'broken' : received === '' ? 'under way' : failed ? 'failed' : 'answered' };
}

/** An answer came, and is neither a refusal nor a tool's own error. */
function wasAnswered(entry: Entry): boolean {
  return hopOf(entry).outcome === 'answered';
}

function toolOf({ hop }: Entry): string {
  return `${hop.to} ${hop.operation}`;
}

function endOf(outcome: BesideOutcome): string {
  if (outcome === 'broken') return outcome;
  if (outcome.failed) return 'failed';
  return outcome.code === undefined ? 'answered' : `refused ${outcome.code}`;
}

function lineOf({ from, to, operation, person, epoch, outcome, code, check }: TraceHop, aside: boolean): string {
  const said = code === undefined ? outcome : `${outcome} ${code}${check === undefined ? '' : ` (${check})`}`;
  const about = person === undefined ? '' : ` · ${person}`;
  return `  ${aside ? '‖ ' : ''}${from} → ${to} ${operation}${about}${epoch === undefined ? '' : ` · epoch ${epoch}`}: ${said}`;
}

/** What is asked; `undefined` for what is no hop: handshakes, catalogues, notifications, metadata and tokens. */
function operationOf(request: Request, body: string): string | undefined {
  const url = new URL(request.url);
  if (request.method === 'GET') {
    if (url.pathname.includes('/.well-known/') || !request.headers.has('authorization')) return undefined;
    return `GET ${url.pathname.split('/').find((part) => /^[A-Z]/.test(part)) ?? url.pathname}`;
  }
  const { method, id, params } = messageOf(body);
  if (typeof method !== 'string' || id === undefined) return undefined;
  const kind = methodClass(method);
  if (kind === 'handshake' || kind === 'catalogue') return undefined;
  return method === 'tools/call' && typeof params?.name === 'string' ? params.name : method;
}

/** Methods whose answers are of the patient. */
const ASKING: ReadonlySet<unknown> = new Set(['tools/call', 'resources/read', 'prompts/get']);

/** True when a message calls a tool. */
export function callsTool(body: string): boolean {
  return messageOf(body).method === 'tools/call';
}

function intentOf(body: string): { readonly intent: string | undefined; readonly epoch: number | undefined } {
  const envelope = messageOf(body).params?._meta?.[META.context] as { intent?: { id?: unknown; epoch?: unknown } } | undefined;
  const { id, epoch } = envelope?.intent ?? {};
  return { intent: typeof id === 'string' ? id : undefined, epoch: typeof epoch === 'number' ? epoch : undefined };
}

interface Message {
  readonly method?: unknown;
  readonly id?: unknown;
  readonly params?: { readonly name?: unknown; readonly _meta?: Readonly<Record<string, unknown>> };
}

function messageOf(body: string): Message {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null ? (value as Message) : {};
  } catch {
    return {};
  }
}
