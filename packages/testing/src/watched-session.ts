import type { CallOptions, ClientTransport, Session, SwitchReport, SwitchRequest, TransportOptions } from '@hmcp/agent';
import type { Grant } from '@hmcp/auth';
import type { PatientTool } from '@hmcp/core';
import type * as z from 'zod';
import type { TestPerson } from './people.js';
import type { TraceBook } from './trace.js';

/** A session whose deliveries are written down: whom was asked about, and who is on the screen when the answer comes. */
export class WatchedSession implements Session {
  readonly #session: Session;
  readonly #trace: TraceBook;
  readonly #during: (work: Promise<unknown>) => void;
  readonly #people: readonly TestPerson[];
  #person: TestPerson;

  /** @param options.during is told of everything it is asked for */
  constructor(options: {
    session: Session;
    trace: TraceBook;
    during: (work: Promise<unknown>) => void;
    people: readonly TestPerson[];
    person: TestPerson;
  }) {
    this.#session = options.session;
    this.#trace = options.trace;
    this.#during = options.during;
    this.#people = options.people;
    this.#person = options.person;
  }

  get assurance(): Session['assurance'] {
    return this.#session.assurance;
  }

  get sid(): string | undefined {
    return this.#session.sid;
  }

  get epoch(): number {
    return this.#session.epoch;
  }

  get events(): Session['events'] {
    return this.#session.events;
  }

  call<I extends z.ZodObject, O extends z.ZodType>(
    peer: string,
    contract: PatientTool<I, O>,
    args: z.input<I>,
    options?: CallOptions,
  ): Promise<z.output<O>> {
    return this.#watch(`${peer} ${contract.name}`, this.#session.call(peer, contract, args, options));
  }

  act<T>(fn: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return this.#watch('an act', this.#session.act(fn));
  }

  get fetch(): Session['fetch'] {
    return this.#session.fetch;
  }

  transport<T extends ClientTransport>(transport: T, options?: TransportOptions): T {
    return this.#session.transport(transport, options);
  }

  async switchPatient(request: SwitchRequest): Promise<SwitchReport> {
    let grant: Grant | undefined;
    const switching = this.#session.switchPatient({
      ...request,
      authorize: async () => {
        grant = await request.authorize();
        return grant;
      },
    });
    this.#during(switching);
    const report = await switching;
    const next = this.#people.find(({ id }) => id === grant?.patient);
    if (report.result === 'committed' && next !== undefined) this.#person = next;
    this.#trace.at(`switch ${report.result}${report.reason === undefined ? '' : ` (${report.reason})`}, at`, this.#person);
    return report;
  }

  renew(grant: Grant): void {
    this.#session.renew(grant);
  }

  close(): Promise<void> {
    return this.#session.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The work, written down when it is delivered. A test may look at a refusal long after it came. */
  #watch<T>(what: string, work: Promise<T>): Promise<T> {
    const asked = this.#person;
    this.#during(work);
    const watched = work.then((value) => {
      this.#trace.delivered(what, asked, this.#person, value);
      return value;
    });
    watched.catch(() => undefined);
    return watched;
  }
}
