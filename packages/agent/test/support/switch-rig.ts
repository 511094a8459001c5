import type { ParticipantLink } from '@hmcp/context-manager';
import { HmcpError, type SealClaims } from '@hmcp/core';
import {
  type Agent,
  openSession,
  participate,
  permitAuthority,
  type Session,
  type SessionParticipation,
} from '../../src/index.js';
import type { SealedCall } from './sealed-peer.js';
import { MANAGER, type SessionWorld, sessionWorld, TYPED } from './session-world.js';
import { ANN, BO, listResults, observation } from './world.js';

export const CY = 'pt-cy-2222';
export const PATIENTS = [ANN, BO, CY] as const;

/** What becomes of one message on its way to the manager. */
export type Fate = 'arrives' | 'is lost' | 'loses its answer' | 'comes twice' | 'comes again later' | 'waits';

/** One thing that happens. */
export type Happening =
  /** The person asks for something; the answer stays at the server. */
  | { readonly does: 'call' }
  /** An act of two calls. */
  | { readonly does: 'act' }
  /** One answer leaves the server. */
  | { readonly does: 'answer'; readonly nth: number }
  | {
      readonly does: 'switch';
      readonly to: number;
      /** What the person types, dialog by dialog. */
      readonly types: readonly ('right' | 'wrong' | 'decline')[];
      /** What becomes of the messages of this switch, one after the other; then all arrive. */
      readonly fates: readonly Fate[];
    }
  /** The next dialog is left open until `confirm`. */
  | { readonly does: 'confirm' }
  /** One message that waited arrives. */
  | { readonly does: 'deliver'; readonly nth: number }
  | { readonly does: 'tick'; readonly ms: number }
  | { readonly does: 'crash' }
  /** Whether the portal reaches its manager, from the next confirmation on or at once. */
  | { readonly does: 'network'; readonly is: 'up' | 'down' | 'down after the confirmation' }
  /** The orders agent asks for a permit with the last request it saw, or uses one. */
  | { readonly does: 'permit' }
  | { readonly does: 'effect'; readonly nth: number }
  /** Whether participants answer the manager. */
  | { readonly does: 'participants'; readonly fate: 'answer' | 'are silent' | 'come late' };

/** A broken invariant. @see patient-switch study 2.11 */
export class Violation extends Error {}

function hold(invariant: string, holds: boolean): void {
  if (!holds) throw new Violation(invariant);
}

/** Milliseconds of the machine's own time a history may take to end; far more than it needs. */
const LONG_MS = 20_000;

const pick = <T>(list: readonly T[], nth: number): T | undefined => (list.length === 0 ? undefined : list[nth % list.length]);

/** A few turns of the event loop: most of what needs no time and no decision happens. */
async function calm(turns = 6): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/**
 * A portal's session with the real manager behind the real SDK, two participants, a server whose answers the test holds, and a network
 * it owns. What is delivered to the person is compared with the row at that very moment, never with what the session believes.
 */
export class SwitchRig {
  readonly #bed: SessionWorld;
  readonly #orders: Agent;
  #session: Session | undefined;
  readonly #parts: SessionParticipation[] = [];
  readonly #held: { readonly call: SealedCall; readonly open: () => void }[] = [];
  readonly #waiting: (() => void)[] = [];
  #fates: Fate[] = [];
  #network: 'up' | 'down' | 'down after the confirmation' = 'up';
  #participants: 'answer' | 'are silent' | 'come late' = 'answer';
  #dialog: (() => void) | undefined;
  #holdDialog = false;
  readonly #permits: { readonly epoch: number; readonly usableUntil: number }[] = [];
  #seen: SealedCall | undefined;
  readonly #running = new Set<Promise<unknown>>();
  // Ghost state.
  readonly #patientOf = new Map<number, string>();
  readonly #intentEpoch = new Map<string, number>();
  /** A confirmation was sent, and its outcome is not known to the portal. */
  #confirmed = false;
  #epoch = 0;
  /** The first thing that was delivered wrongly; promises of the session cannot throw into the test. */
  #fault: Violation | undefined;
  delivered = 0;
  committed = 0;

  private constructor(bed: SessionWorld) {
    this.#bed = bed;
    this.#orders = bed.another({ clientId: 'orders', resource: 'https://orders.example/mcp' }).agent;
  }

  /** A rig is used for many histories, each with a session of its own. */
  static async make(): Promise<SwitchRig> {
    const rigs: SwitchRig[] = [];
    const link: ParticipantLink = {
      tell: async (...told) => rigs[0]?.tell(...told),
      close: async () => undefined,
    };
    const rig = new SwitchRig(await sessionWorld({ link }));
    rigs.push(rig);
    return rig;
  }

  async close(): Promise<void> {
    await this.#orders.close();
    await this.#bed.close();
  }

  /** @param attended whether two participants join */
  async start(attended: boolean): Promise<void> {
    const bed = this.#bed;
    bed.network = (_, serve) => serve();
    bed.labs.calls.length = 0;
    bed.asked.length = 0;
    bed.exchanges.length = 0;
    bed.audit.records.length = 0;
    bed.labs.onCall = (call: SealedCall) => this.#arrived(call);
    this.#fates = [];
    this.#parts.length = 0;
    this.#held.length = 0;
    this.#waiting.length = 0;
    this.#running.clear();
    this.#dialog = undefined;
    this.#participants = 'answer';
    this.#network = 'up';
    this.#holdDialog = false;
    this.#permits.length = 0;
    this.#seen = undefined;
    this.#patientOf.clear();
    this.#intentEpoch.clear();
    this.#confirmed = false;
    this.#epoch = 0;
    this.#fault = undefined;
    this.#session = await openSession({
      agent: bed.agent,
      grant: this.#grant(ANN),
      manager: MANAGER,
      participants: ['labs', 'orders'],
    });
    for (const clientId of attended ? (['labs', 'orders'] as const) : []) {
      const agent = clientId === 'orders' ? this.#orders : bed.agent;
      const part = participate({
        agent,
        manager: MANAGER,
        credentials: bed.credentials(clientId),
        role: clientId === 'orders' ? 'effector' : 'reader',
        delivery: 'push',
      });
      await part.join(this.#sid);
      this.#parts.push(part);
    }
    bed.network = (request, serve) => this.#carry(request, serve);
    await this.#check();
  }

  async happen(one: Happening): Promise<void> {
    switch (one.does) {
      case 'call':
        this.#call();
        break;
      case 'act':
        this.#act();
        break;
      case 'answer':
        this.#answer(one.nth);
        break;
      case 'switch':
        this.#switch(one);
        break;
      case 'confirm':
        this.#openDialog();
        break;
      case 'deliver':
        this.#deliver(one.nth);
        break;
      case 'tick':
        this.#bed.clock.advance(one.ms);
        break;
      case 'crash':
        await this.#bed.restart();
        break;
      case 'network':
        this.#network = one.is;
        break;
      case 'permit':
        await this.#permit();
        break;
      case 'effect':
        await this.#effect(one.nth);
        break;
      case 'participants':
        this.#participants = one.fate;
        break;
    }
    await calm();
    await this.#check();
  }

  /** Everything arrives and is answered; then the session and the row agree, and the session works. */
  async settle(): Promise<void> {
    const session = this.#open;
    this.#holdDialog = false;
    this.#fates = [];
    this.#participants = 'answer';
    if (this.#network === 'down') this.#network = 'up';
    const began = performance.now();
    for (let round = 0; this.#running.size > 0; round += 1) {
      hold('L1 whatever was begun ends', performance.now() - began < LONG_MS);
      this.#dialog?.();
      this.#dialog = undefined;
      this.#deliver(0);
      this.#answer(0);
      if (round % 500 === 499) {
        this.#bed.clock.advance(5_000);
        // Where nobody could say how a switch ended, calls wait until somebody asks again.
        this.#network = 'up';
        if (round < 5_000) this.#call();
      }
      await calm(1);
      if (round % 50 === 0) await this.#check();
    }
    this.#network = 'up';
    // Nobody may have been able to say where the session is; the next call asks.
    const { epoch, pending } = await this.#row();
    if (epoch !== session.epoch || pending !== undefined || this.#confirmed) {
      this.#call();
      await this.#drained();
    }
    const row = await this.#row();
    hold('the session is where the row is', session.epoch === row.epoch);
    hold('L1 decided', row.pending === undefined);
    const before = this.delivered;
    this.#confirmed = false;
    this.#call();
    await this.#drained();
    hold('the session works', this.delivered === before + 1);
    await this.#check();
    await Promise.all(this.#parts.splice(0).map((part) => part.close()));
  }

  get #open(): Session {
    if (this.#session === undefined) throw new Error('not started');
    return this.#session;
  }

  get #sid(): string {
    return this.#open.sid ?? '';
  }

  async #row() {
    const row = await this.#bed.store.read(this.#sid);
    if (row === undefined) throw new Violation('the session is gone');
    return row;
  }

  #grant(patient: string) {
    return this.#bed.grant(patient, { expiresAt: this.#bed.clock.now() / 1000 + 100_000 });
  }

  async #drained(): Promise<void> {
    const began = performance.now();
    while (this.#running.size > 0) {
      hold('L1 a call ends', performance.now() - began < LONG_MS);
      this.#deliver(0);
      this.#answer(0);
      await calm(1);
    }
  }

  #run(work: Promise<unknown>): void {
    const running: Promise<unknown> = work.finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** What the person sees: the value, the moment it is delivered. */
  #show(work: Promise<unknown>, asked: { readonly epoch: number }): void {
    const shown = work.then(
      async (value) => {
        // Taken before anything else can happen; the row is read of the store at once.
        const confirmed = this.#confirmed;
        const row = await this.#row();
        this.delivered += 1;
        const patient = row.subject?.patient ?? '';
        this.#note('S3 nothing is delivered from the confirmation to the outcome', !confirmed);
        this.#note('S3 what is delivered is of the epoch of the row', row.epoch === asked.epoch);
        this.#note('S5 the answer is of the patient that was asked about', same(value, [observation(patient)]));
      },
      (error: unknown) => this.#note('a call ends with a refusal', error instanceof HmcpError),
    );
    this.#run(shown);
  }

  #note(invariant: string, holds: boolean): void {
    if (!holds) this.#fault ??= new Violation(invariant);
  }

  #call(): void {
    const { epoch } = this.#open;
    this.#show(
      this.#open.call('labs', listResults, {}).then(({ results }) => results),
      { epoch },
    );
  }

  #act(): void {
    const session = this.#open;
    const { epoch } = session;
    const act = session.act(async () => {
      await session.call('labs', listResults, {});
      return (await session.call('labs', listResults, {})).results;
    });
    this.#show(act, { epoch });
  }

  async #arrived(call: SealedCall): Promise<undefined> {
    const { envelope, seal } = call;
    this.#seen = call;
    const known = this.#intentEpoch.get(envelope.intent.id);
    this.#note('S12 an intent is of one epoch', known === undefined || known === seal.epoch);
    this.#note('S12 an intent is sent at its epoch', envelope.intent.epoch === seal.epoch);
    this.#intentEpoch.set(envelope.intent.id, seal.epoch);
    this.#learn(seal);
    await new Promise<void>((open) => this.#held.push({ call, open }));
    return undefined;
  }

  #learn(seal: SealClaims): void {
    const known = this.#patientOf.get(seal.epoch);
    this.#note('S1 an epoch has one patient', known === undefined || known === seal.patient);
  }

  #answer(nth: number): void {
    const held = pick(this.#held, nth);
    if (held === undefined) return;
    this.#held.splice(this.#held.indexOf(held), 1);
    held.open();
  }

  #switch({ to, types, fates }: Extract<Happening, { does: 'switch' }>): void {
    this.#fates = [...fates];
    const answers = [...types];
    const patient = PATIENTS[to % PATIENTS.length] ?? ANN;
    const grant = this.#grant(patient);
    const work = this.#open
      .switchPatient({
        authorize: async () => grant,
        confirm: async ({ target }) => {
          // A dialog is open: what was confirmed before was not accepted.
          this.#confirmed = false;
          if (this.#holdDialog)
            await new Promise<void>((open) => {
              this.#dialog = open;
            });
          const typed = answers.shift() ?? 'right';
          if (typed === 'decline') return 'decline';
          return typed === 'right' ? { ...TYPED[target.patient] } : { birthDate: '1900-01-01', recordNumberLast4: '0000' };
        },
      })
      .then(
        (report) => {
          if (report.result === 'committed') this.committed += 1;
          this.#note(
            'a grant of no use is revoked, and only it',
            report.result === 'pending' || report.result === 'committed' ? grant.revoked === 0 : grant.revoked === 1,
          );
        },
        (error: unknown) => this.#note('a switch is refused for a reason', error instanceof HmcpError),
      );
    this.#run(work);
  }

  #openDialog(): void {
    this.#holdDialog = !this.#holdDialog && this.#dialog === undefined;
    const open = this.#dialog;
    this.#dialog = undefined;
    open?.();
  }

  /** Takes a message of the portal to the manager, or not. */
  async #carry(request: Request, serve: () => Promise<Response>): Promise<Response> {
    const body = await request.clone().text();
    const confirms = body.includes('"action":"accept"');
    if (confirms) this.#confirmed = true;
    if (this.#network === 'down') throw new TypeError('fetch failed');
    if (confirms && this.#network === 'down after the confirmation') {
      this.#network = 'down';
      await serve();
      throw new TypeError('fetch failed');
    }
    const ofSwitch = body.includes('"switchId"');
    const response = await this.#exchange(request, body, ofSwitch, serve);
    // The portal is about to read how it ended.
    if (ofSwitch && /"result":"(committed|aborted|unchanged)"/.test(await response.clone().text())) this.#confirmed = false;
    return response;
  }

  async #exchange(request: Request, body: string, ofSwitch: boolean, serve: () => Promise<Response>): Promise<Response> {
    const fate = ofSwitch ? (this.#fates.shift() ?? 'arrives') : 'arrives';
    const again = () => this.#bed.manager().fetch(new Request(request.url, { method: 'POST', headers: request.headers, body }));
    switch (fate) {
      case 'is lost':
        throw new TypeError('fetch failed');
      case 'loses its answer':
        await serve();
        throw new TypeError('fetch failed');
      case 'comes twice': {
        const [first] = await Promise.all([serve(), again()]);
        return first;
      }
      case 'comes again later':
        this.#waiting.push(() => void again().catch(() => undefined));
        return serve();
      case 'waits':
        await new Promise<void>((open) => this.#waiting.push(open));
        return again();
      default:
        return serve();
    }
  }

  #deliver(nth: number): void {
    const arrive = pick(this.#waiting, nth);
    if (arrive === undefined) return;
    this.#waiting.splice(this.#waiting.indexOf(arrive), 1);
    arrive();
  }

  /** The manager asks a participant. */
  async tell(...[{ to, method, params }]: Parameters<ParticipantLink['tell']>): ReturnType<ParticipantLink['tell']> {
    const part = this.#parts[to === 'labs' ? 0 : 1];
    if (part === undefined || this.#participants === 'are silent') {
      this.#bed.clock.advance(6_000);
      return undefined;
    }
    if (this.#participants === 'come late') await new Promise<void>((open) => this.#waiting.push(open));
    try {
      if (method === 'dev.hmcp/context.prepare') return { method, vote: await part.prepare(params) };
      if (method === 'dev.hmcp/context.drain') return { method, drained: await part.drain(params) };
      await part.decided(params);
    } catch {
      return undefined;
    }
    return undefined;
  }

  async #permit(): Promise<void> {
    const call = this.#seen;
    if (call === undefined) return;
    const bearer = { accessToken: call.token, seal: call.envelope.seal, intent: call.envelope.intent };
    const effect = { operation: 'sign-order', effectKey: `k${this.#permits.length}` };
    const participation = this.#parts[1];
    const held = await permitAuthority({ agent: this.#orders, participation })
      .permit(effect, bearer)
      .catch(() => undefined);
    if (held !== undefined) this.#permits.push(held);
  }

  /** The orders agent causes its effect while its permit lives by its own clock. */
  async #effect(nth: number): Promise<void> {
    const held = pick(this.#permits, nth);
    if (held === undefined || held.usableUntil <= this.#bed.clock.now()) return;
    hold('S4 no stale effect', (await this.#row()).epoch === held.epoch);
  }

  async #check(): Promise<void> {
    const row = await this.#row();
    const patient = row.subject?.patient ?? '';
    const known = this.#patientOf.get(row.epoch);
    hold('S1 an epoch has one patient', known === undefined || known === patient);
    hold(
      'S2 the epoch never falls, and rises by one',
      this.#epoch === 0 || row.epoch === this.#epoch || row.epoch === this.#epoch + 1,
    );
    hold('S6 the session is never ahead of the row', this.#open.epoch <= row.epoch);
    hold(
      'S7 nothing is committed that was not confirmed',
      row.decided.filter(({ outcome }) => outcome.result === 'committed').length === row.epoch - 1,
    );
    this.#patientOf.set(row.epoch, patient);
    this.#epoch = row.epoch;
    if (this.#fault !== undefined) throw this.#fault;
  }
}

function same(value: unknown, expected: unknown): boolean {
  return JSON.stringify(value) === JSON.stringify(expected);
}
