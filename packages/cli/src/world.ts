import { type ChildProcess, fork } from 'node:child_process';
import { chmod, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AuditFailure, lockForWriting } from '@hmcp/audit';
import { writePrivate } from './kept-keys.js';
import { openProxy, type ReverseProxy } from './proxy.js';
import type { WorldFacts, WorldOptions } from './world-facts.js';
import { CLINIC_PARTIES, planWorld } from './world-plan.js';

/**
 * Why there is no world.
 * - `in_use`: another one runs on the state folder · `state`: the state folder cannot be used
 * - `production`: `NODE_ENV` is `production` · `ended`: a process ended or did not listen · `stopped`: the signal said so
 */
export type WorldErrorCode = 'in_use' | 'state' | 'production' | 'ended' | 'stopped';

/** A world that cannot be; the message is a sentence for the person at the keyboard. */
export class WorldError extends Error {
  readonly code: WorldErrorCode;

  constructor(code: WorldErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'WorldError';
    this.code = code;
  }
}

/** Messages between the launcher and one of its processes. */
export interface PartyChannel {
  send(message: { readonly type: string }): void;
  /** The next message of this type, counted from the call. */
  next(type: string): Promise<{ readonly type: string }>;
}

/** A running world. */
export interface World {
  readonly facts: WorldFacts;
  /** Stops every process, then every proxy. Idempotent. */
  close(): Promise<void>;
  /**
   * The control channel of a process of this world: no network, and closed to everybody but its parent.
   * @throws {TypeError} when the world has no process of this name
   */
  channel(name: string): PartyChannel;
  /** Resolves to a sentence when a process ends that should not. */
  readonly failed: Promise<string>;
}

const START_MS = 30_000;

/**
 * Starts the development world: authorization server, FHIR server, context manager, portal, triage, labs, medications, orders and
 * any extras, each its own process on a free loopback port behind a proxy that holds its public address. One world at a time holds a state folder.
 * @throws {WorldError}
 */
export async function startWorld(options: WorldOptions): Promise<World> {
  const { state, extras = [], signal } = options;
  if (process.env.NODE_ENV === 'production')
    throw new WorldError('production', 'this is a development world; it does not start with NODE_ENV=production');
  const release = await holdState(state);
  const listeners = extras.filter(({ childOf }) => childOf === undefined);
  const names = [...CLINIC_PARTIES, ...listeners.map(({ name }) => name)];
  const proxies = new Map<string, ReverseProxy>();
  const children: ChildProcess[] = [];
  const running = new Map<string, ChildProcess>();
  let closing: Promise<void> | undefined;
  let fail: (sentence: string) => void = () => undefined;
  const failed = new Promise<string>((resolve) => {
    fail = resolve;
  });
  const closeAll = async (): Promise<void> => {
    await Promise.all(children.map(stop));
    await Promise.all([...proxies.values()].map((proxy) => proxy.close()));
    await release();
  };
  const close = (): Promise<void> => {
    closing ??= closeAll();
    return closing;
  };

  try {
    const before = await previousPorts(state);
    for (const name of names) proxies.set(name, await openProxy(name, before.get(name) ?? 0, options.record));
    const origin = (name: string): string => `http://127.0.0.1:${proxies.get(name)?.port}`;
    const plan = await planWorld(options, origin);
    const configured = plan.processes.map(({ name, config }) =>
      writePrivate(join(state, 'config', `${name}.json`), JSON.stringify(config, null, 2)),
    );
    await Promise.all(configured);
    const started = plan.processes.filter(({ starts }) => starts !== false);
    const starts = started.map(async ({ name, module, args }) => {
      const file = join(state, 'config', `${name}.json`);
      if (closing !== undefined || signal?.aborted) return;
      // A process group of its own: Ctrl-C reaches the launcher, which stops its children in order.
      const child = fork(module, [...args, file], {
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
        execArgv: [],
        detached: process.platform !== 'win32',
      });
      children.push(child);
      running.set(name, child);
      child.once('exit', () => {
        if (closing === undefined) fail(`the process "${name}" ended`);
      });
      proxies.get(name)?.forwardTo(await listening(child, name));
    });
    await Promise.race([Promise.all(starts), whenAborted(signal)]);
    await writePrivate(join(state, 'world.json'), JSON.stringify(plan.facts, null, 2));
    return { facts: plan.facts, close, failed, channel: (name) => channelOf(running.get(name)) };
  } catch (error) {
    await close();
    if (signal?.aborted) throw new WorldError('stopped', 'the world was stopped while it started');
    throw error;
  }
}

function channelOf(child: ChildProcess | undefined): PartyChannel {
  if (child === undefined) throw new TypeError('the world has no process of this name');
  return {
    send: (message) => void child.send(message),
    next: (type) =>
      new Promise((resolve) => {
        const heard = (message: unknown): void => {
          const said = message as { readonly type: string };
          if (said?.type !== type) return;
          child.off('message', heard);
          resolve(said);
        };
        child.on('message', heard);
      }),
  };
}

/** Rejects when the signal aborts; never settles otherwise. */
function whenAborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    if (signal?.aborted) reject(signal.reason);
    signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

/** Makes the state folder and takes it for this world. @returns what gives it back */
async function holdState(state: string): Promise<() => Promise<void>> {
  try {
    for (const name of ['keys', 'config', 'audit']) {
      const folder = join(state, name);
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await chmod(folder, 0o700); // it may have been there
    }
    return await lockForWriting(join(state, 'world'));
  } catch (error) {
    if (error instanceof AuditFailure)
      throw new WorldError(
        'in_use',
        `another world runs on the state folder ${state}: stop it, or name another folder with --state (if none runs, remove ${join(state, 'world.lock')})`,
      );
    const { code } = (error ?? {}) as { code?: unknown };
    throw new WorldError('state', `the state folder ${state} cannot be used (${String(code ?? 'unknown')})`, { cause: error });
  }
}

function listening(child: ChildProcess, name: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new WorldError('ended', `the process "${name}" did not listen within ${START_MS / 1000} s`)),
      START_MS,
    );
    child.once('exit', () => {
      clearTimeout(timer);
      reject(new WorldError('ended', `the process "${name}" ended before it listened`));
    });
    child.on('message', (message: { type?: unknown; port?: unknown }) => {
      if (message.type !== 'listening' || typeof message.port !== 'number') return;
      clearTimeout(timer);
      resolve(message.port);
    });
  });
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 3000);
  await ended;
  clearTimeout(timer);
}

async function previousPorts(state: string): Promise<Map<string, number>> {
  try {
    const { parties } = JSON.parse(await readFile(join(state, 'world.json'), 'utf8')) as WorldFacts;
    return new Map(parties.map(({ name, url }) => [name, Number(new URL(url).port)]));
  } catch {
    return new Map();
  }
}

export type { RecordedExchange } from './proxy.js';
export type { ExtraParty, PartyAddress, WorldFacts, WorldLogLevel, WorldOptions } from './world-facts.js';
export { CLINIC_PARTIES, DEVELOPER_SCOPE } from './world-plan.js';
