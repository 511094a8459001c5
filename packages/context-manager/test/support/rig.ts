import { createHash } from 'node:crypto';
import type { AuditRecord, SwitchOutcome } from '@hmcp/core';
import * as machine from '../../src/machine.js';
import * as permits from '../../src/permits.js';
import type { Permit, Session } from '../../src/session-row.js';
import { type Applied, Sessions } from '../../src/sessions.js';
import { type ContextStore, StoreUnavailable } from '../../src/store.js';
import { TIMING } from '../../src/timing.js';
import { handClock } from './clock.js';
import { subject } from './rows.js';

/** The decisions a rig is run with; a mutant replaces one. */
export const MACHINE = { ...machine, ...permits };
export type Machine = typeof MACHINE;

/** What somebody may send to the manager, as data: it can be delayed, lost, and delivered twice. */
export type Sent =
  | { readonly op: 'begin'; readonly id: number; readonly to: number | 'close'; readonly back: number }
  | { readonly op: 'vote'; readonly who: number; readonly id: number; readonly said: 'accept' | 'veto' | 'cannot_follow' }
  | { readonly op: 'ask'; readonly id: number }
  | { readonly op: 'answer'; readonly id: number; readonly nonce: number; readonly right: boolean }
  | { readonly op: 'proceed' | 'commit' | 'abort'; readonly id: number }
  | { readonly op: 'drained'; readonly who: number; readonly id: number }
  | { readonly op: 'join'; readonly who: number; readonly effector: boolean }
  | { readonly op: 'permit'; readonly who: number; readonly key: number }
  | { readonly op: 'redeem'; readonly nth: number }
  | { readonly op: 'release'; readonly nth: number };

/** One thing that happens. */
export type Happening =
  | { readonly does: 'send'; readonly what: Sent; readonly fate: 'arrives' | 'waits' | 'is lost' }
  | { readonly does: 'deliver'; readonly nth: number; readonly twice: boolean }
  | { readonly does: 'tick'; readonly ms: number }
  | { readonly does: 'store fails'; readonly when: 'before' | 'after' }
  | { readonly does: 'crash' }
  | { readonly does: 'effect'; readonly nth: number };

const PATIENTS = ['A', 'B', 'C'] as const;
const CLIENTS = ['orders', 'labs'] as const;
const pick = <T>(list: readonly T[], nth: number): T | undefined => (list.length === 0 ? undefined : list[nth % list.length]);

/** A broken invariant of the switch. @see patient-switch study 2.11 */
export class Violation extends Error {}

function hold(invariant: string, holds: boolean): void {
  if (!holds) throw new Violation(invariant);
}

/**
 * One session, its manager over a store that fails when told to, two participants and a person behind a network the test owns.
 * After each happening the invariants are checked against what really happened (the ghost state), never against the row alone.
 */
export class Rig {
  readonly #clock = handClock();
  readonly #store: ContextStore;
  readonly #machine: Machine;
  readonly #records: AuditRecord[] = [];
  #sessions: Sessions;
  #waiting: Sent[] = [];
  #fault: 'before' | 'after' | undefined;
  #serial = 0;
  // Ghost state.
  readonly #patientOf = new Map<number, string | null>();
  readonly #outcomes = new Map<string, string>();
  readonly #nonces: { readonly id: string; readonly hash: string }[] = [];
  readonly #confirmed = new Map<string, string>();
  readonly #used = new Set<string>();
  readonly #granted: Permit[] = [];
  readonly #redeemed = new Set<string>();
  #last: Session | undefined;

  constructor(store: ContextStore, mutant: Partial<Machine> = {}) {
    this.#machine = { ...MACHINE, ...mutant };
    const parts = this;
    this.#store = {
      ...store,
      create: (...args) => store.create(...args),
      read: (sid) => store.read(sid),
      readOpened: (key) => store.readOpened(key),
      undecided: () => store.undecided(),
      watch: (...args) => store.watch(...args),
      async compareAndSet(next, record) {
        const fault = parts.#fault;
        parts.#fault = undefined;
        if (fault === 'before') throw new StoreUnavailable();
        const result = await store.compareAndSet(next, record);
        if (result === 'done') parts.#records.push(record);
        if (fault === 'after') throw new StoreUnavailable();
        return result;
      },
    };
    this.#sessions = this.#manager();
  }

  #manager(): Sessions {
    const self = { by: 'manager' };
    return new Sessions({ store: this.#store, clock: this.#clock, timing: TIMING, self, tell: () => undefined });
  }

  async start(): Promise<void> {
    const owner = { issuer: 'as', subject: 'alice' };
    const opening = { sid: 'ctx_1', owner, client: 'portal', subject: subject('A'), participants: [...CLIENTS] };
    const { session, record } = this.#machine.open(opening, this.#sessions.at());
    await this.#store.create(session, 'k', record);
    this.#records.push(record);
    await this.#check();
  }

  async happen(what: Happening): Promise<void> {
    switch (what.does) {
      case 'send':
        if (what.fate === 'arrives') await this.#arrive(what.what);
        if (what.fate === 'waits' && this.#waiting.length < 8) this.#waiting.push(what.what);
        break;
      case 'deliver': {
        const sent = pick(this.#waiting, what.nth);
        if (sent === undefined) break;
        if (!what.twice) this.#waiting = this.#waiting.filter((one) => one !== sent);
        await this.#arrive(sent);
        break;
      }
      case 'tick':
        this.#clock.advance(what.ms);
        break;
      case 'store fails':
        this.#fault = what.when;
        break;
      case 'crash':
        await this.#crash();
        break;
      case 'effect':
        await this.#effect(what.nth);
        break;
    }
    await this.#check();
  }

  /** Everything arrives, time passes: whatever was begun is decided. */
  async settle(): Promise<void> {
    this.#fault = undefined;
    for (const sent of this.#waiting.splice(0)) await this.#arrive(sent);
    this.#clock.advance(TIMING.switchMs + TIMING.permitMs + TIMING.skewMs + 1);
    const session = await this.#sessions.read('ctx_1');
    hold('L1 decided', session?.pending === undefined);
    await this.#check();
  }

  /** A new manager over the same store aborts what it finds undecided. */
  async #crash(): Promise<void> {
    this.#fault = undefined;
    this.#sessions = this.#manager();
    for (const sid of await this.#store.undecided()) {
      await this.#sessions.apply(sid, { by: 'manager' }, (row, at) =>
        row.pending
          ? this.#machine.abort(row, { switchId: row.pending.switchId, reason: 'restart' }, at)
          : { is: 'same', session: row },
      );
    }
  }

  async #arrive(sent: Sent): Promise<void> {
    try {
      await this.#serve(sent);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
    }
  }

  async #serve(sent: Sent): Promise<void> {
    const { begin, vote, ask, answer, proceed, commit, abort, drained, join, permit, redeem, release } = this.#machine;
    const apply = (decide: (row: Session, at: machine.At) => machine.Step): Promise<Applied | undefined> =>
      this.#sessions.apply('ctx_1', { by: 'manager' }, decide);
    const row = await this.#sessions.read('ctx_1');
    if (row === undefined) throw new Violation('the session is gone');
    const switchId = 'id' in sent ? `s${sent.id}` : '';
    switch (sent.op) {
      case 'begin': {
        const closing = sent.to === 'close';
        const target = sent.to === 'close' ? null : subject(PATIENTS[sent.to % PATIENTS.length] ?? 'A');
        const expectedEpoch = Math.max(row.epoch - sent.back, 0);
        const proposal = { switchId, kind: closing ? 'close' : 'switch', expectedEpoch, target, effectors: false } as const;
        await apply((now, at) => begin(now, proposal, at));
        break;
      }
      case 'vote': {
        const said = { clientId: CLIENTS[sent.who % 2] ?? '', switchId, vote: { vote: sent.said, unsaved: [], inflight: 0 } };
        await apply((now, at) => vote(now, said, at));
        break;
      }
      case 'ask': {
        this.#serial += 1;
        const hash = createHash('sha256').update(String(this.#serial)).digest('base64url');
        const applied = await apply((now, at) => ask(now, { switchId, nonceHash: hash }, at));
        if (applied?.is === 'row' && applied.moved) this.#nonces.push({ id: switchId, hash });
        break;
      }
      case 'answer': {
        const nonce = pick(this.#nonces, sent.nonce);
        if (nonce === undefined) break;
        const before = row.pending?.nonceHash;
        const given = { switchId, nonceHash: nonce.hash, right: sent.right };
        const applied = await apply((now, at) => answer(now, given, at));
        if (applied?.is !== 'row' || !applied.moved) break;
        hold('S7 the answer is to the open dialog of this switch', nonce.id === switchId && before === nonce.hash);
        hold('S7 a nonce is consumed once', !this.#used.has(nonce.hash));
        this.#used.add(nonce.hash);
        if (sent.right) this.#confirmed.set(switchId, nonce.hash);
        break;
      }
      case 'proceed':
        await apply((now, at) => proceed(now, { switchId }, at));
        break;
      case 'commit':
        await apply((now, at) => commit(now, { switchId }, at));
        break;
      case 'abort':
        await apply((now, at) => abort(now, { switchId, reason: 'aborted' }, at));
        break;
      case 'drained': {
        const nothing = { saved: [], cancelled: 0, completed: 0, indeterminate: [] };
        const said = { clientId: CLIENTS[sent.who % 2] ?? '', switchId, drained: nothing };
        await apply((now, at) => drained(now, said, at));
        break;
      }
      case 'join': {
        const role = sent.effector ? ('effector' as const) : ('reader' as const);
        await apply((now, at) => join(now, { clientId: CLIENTS[sent.who % 2] ?? '', role, delivery: 'pull' }, at));
        break;
      }
      case 'permit': {
        const clientId = CLIENTS[sent.who % 2] ?? '';
        this.#serial += 1;
        const asked = {
          ...{ permit: `p${this.#serial}`, clientId, epoch: row.epoch, operation: 'sign', ttlMs: 10_000 },
          ...{ intent: { id: `i${sent.key}`, epoch: row.epoch }, effectKey: `k${sent.key}` },
        };
        const applied = await apply((now, at) => permit(now, asked, at));
        if (applied?.is !== 'row') break;
        const granted = permits.grantedPermit(applied.session, asked, this.#clock.now());
        if (granted === undefined) break;
        hold('a permit is granted only while ACTIVE', !applied.moved || row.state === 'active');
        hold('S5 the permit is of this effect', granted.intent === asked.intent.id && granted.effectKey === asked.effectKey);
        hold('S5 the permit is of this epoch', granted.epoch === asked.epoch && granted.clientId === clientId);
        if (!this.#granted.some((one) => one.permit === granted.permit)) this.#granted.push(granted);
        break;
      }
      case 'redeem': {
        const granted = pick(this.#granted, sent.nth);
        if (granted === undefined) break;
        const { epoch, permit: id } = granted;
        const given = { permit: id, epoch, intent: { id: granted.intent, epoch } };
        const applied = await apply((now, at) => redeem(now, given, at));
        if (applied?.is !== 'row' || !applied.moved) break;
        hold('a permit is redeemed once', !this.#redeemed.has(id));
        this.#redeemed.add(id);
        const now = await this.#store.read('ctx_1');
        hold('S4 a redeemed permit is of the current epoch', now?.epoch === epoch && now.state !== 'closed');
        break;
      }
      case 'release': {
        const granted = pick(this.#granted, sent.nth);
        if (granted === undefined) break;
        // A holder that gave a permit back causes no effect with it any more.
        this.#granted.splice(this.#granted.indexOf(granted), 1);
        await apply((now, at) => release(now, { permit: granted.permit, clientId: granted.clientId }, at));
        break;
      }
    }
  }

  /** A holder causes its effect while its permit lives by its own clock, however late it is. */
  async #effect(nth: number): Promise<void> {
    const granted = pick(this.#granted, nth);
    if (granted === undefined || granted.expiresAt <= this.#clock.now()) return;
    const row = await this.#store.read('ctx_1');
    hold('S4 no stale effect', row?.epoch === granted.epoch);
    hold('S9 no effect in a closed session', row?.state !== 'closed');
  }

  async #check(): Promise<void> {
    const row = await this.#store.read('ctx_1');
    if (row === undefined) throw new Violation('the session is gone');
    const before = this.#last;
    const patient = row.subject?.pk ?? null;
    const known = this.#patientOf.get(row.epoch);
    hold('S1 an epoch has one patient', known === undefined || known === patient);
    this.#patientOf.set(row.epoch, patient);
    hold('S2 the epoch never falls', before === undefined || row.epoch >= before.epoch);
    hold('S9 closed is for good', before?.state !== 'closed' || row.state === 'closed');
    hold('S6 a pending switch is undecided', row.pending === undefined || this.#outcomes.get(row.pending.switchId) === undefined);
    hold('a switch is pending exactly in its states', (row.pending !== undefined) === !['active', 'closed'].includes(row.state));
    for (const { outcome } of row.decided) this.#checkOutcome(outcome, before);
    // Every write of the row has exactly one record, in the same write.
    hold('S8 one record for each transition', this.#records.length === row.version);
    const commits = this.#records.filter(({ event }) => event === 'switch.committed');
    hold('S6 a commit raises the epoch by one', commits.length === row.epoch - 1);
    hold(
      'S8 each commit is recorded at its epoch',
      commits.every(({ epoch }, i) => epoch === i + 2),
    );
    this.#last = row;
  }

  #checkOutcome(outcome: SwitchOutcome, before: Session | undefined): void {
    const said = JSON.stringify(outcome);
    const first = this.#outcomes.get(outcome.switchId);
    hold('S6 an outcome is written once', first === undefined || first === said);
    if (first !== undefined) return;
    this.#outcomes.set(outcome.switchId, said);
    if (before === undefined) return;
    if (outcome.result !== 'committed') {
      hold('S13 an abort moves nothing', outcome.epoch <= before.epoch + 1);
      return;
    }
    hold('S7 a commit was confirmed', outcome.kind !== 'switch' || this.#confirmed.has(outcome.switchId));
  }
}
