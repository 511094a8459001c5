import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { lockForWriting } from '@hmcp/audit';
import type { UnsavedItem } from '@hmcp/core';
import {
  afterEvent,
  type Draft,
  type DraftFault,
  type DraftSession,
  type Drafts,
  draftOf,
  draftsFor,
  type OrderContext,
  OrderEvent,
  signable,
  unsavedIn,
} from './order-draft.js';

/** The book refused; `fault` says why. */
export class OrderBookError extends Error {
  override readonly name = 'OrderBookError';
  readonly fault: DraftFault;

  constructor(fault: DraftFault) {
    super(`the order book refused: ${fault}`);
    this.fault = fault;
  }
}

/** Drafts and signed orders, durable before they are told. Each belongs to one patient key for ever. */
export interface OrderBook {
  /**
   * Makes a draft; the same act makes the same one once.
   * @throws {OrderBookError} `other`, `full`
   */
  draft(wanted: Pick<Draft, 'kind' | 'text'>, context: OrderContext): Promise<Draft>;
  /**
   * The draft this act made already; `undefined` when {@link draft} would make one.
   * @throws {OrderBookError} as {@link draft}
   */
  made(wanted: Pick<Draft, 'kind' | 'text'>, context: OrderContext): Draft | undefined;
  /** What may be signed for this patient in this session. */
  drafts(context: Pick<OrderContext, 'pk' | 'session'>): readonly Draft[];
  /**
   * What this act signed already; `undefined` when {@link sign} would sign now.
   * @throws {OrderBookError} as {@link sign}
   */
  signedBy(draft: string, context: OrderContext): Draft['signed'];
  /**
   * Signs a draft of this patient; the same act signs once.
   * @throws {OrderBookError} `unknown`, `signed`
   */
  sign(draft: string, context: OrderContext): Promise<NonNullable<Draft['signed']>>;
  /** What a session would lose with this epoch, as a vote names it. */
  unsaved(session: DraftSession): readonly UnsavedItem[];
  /** Keeps unsaved drafts of a session for their patient. @returns the handles that are saved now */
  save(session: DraftSession, handles: readonly string[]): Promise<readonly string[]>;
  close(): Promise<void>;
}

/**
 * Opens an order book: one file of JSON lines, mode 0600, one writer, each line on disk before its method resolves.
 * A last line that was torn by a crash was never acknowledged, and is cut off.
 * @throws {AuditFailure} `locked`: another process writes it
 * @throws {TypeError} when the file holds anything else
 */
export async function openOrderBook(options: {
  readonly file: string;
  /** Milliseconds since the epoch. @default Date.now */
  readonly now?: (() => number) | undefined;
  /** Makes the changing part of a handle. @default a random UUID */
  readonly id?: (() => string) | undefined;
}): Promise<OrderBook> {
  const { file, now = Date.now, id = () => crypto.randomUUID() } = options;
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const release = await lockForWriting(file);
  const handle = await open(file, 'a+', 0o600);
  let drafts: Drafts;
  try {
    const text = await handle.readFile('utf8');
    const whole = text.slice(0, text.lastIndexOf('\n') + 1);
    if (whole !== text) await handle.truncate(Buffer.byteLength(whole));
    drafts = readEvents(whole);
  } catch (error) {
    await handle.close();
    await release();
    throw error;
  }

  let last: Promise<unknown> = Promise.resolve();
  /** One decision at a time: what was decided on is still true when it is written. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const turn = last.then(work);
    last = turn.catch(() => undefined);
    return turn;
  };
  const write = async (event: OrderEvent): Promise<void> => {
    await handle.appendFile(`${JSON.stringify(event)}\n`);
    await handle.datasync();
    drafts = afterEvent(drafts, event);
  };
  const found = (found: Draft | DraftFault): Draft => {
    if (typeof found === 'string') throw new OrderBookError(found);
    return found;
  };

  return {
    draft: (wanted, context) =>
      inTurn(async () => {
        const made = draftOf(drafts, context, wanted);
        if (made !== undefined) return found(made);
        const { pk, intent, session } = context;
        const draft = `draft_${id()}`;
        const { kind, text } = wanted;
        await write({ event: 'drafted', draft, pk, intent, kind, text, ...(session ? { session } : {}), at: now() });
        return found(drafts.get(draft) ?? 'unknown');
      }),
    made: (wanted, context) => {
      const made = draftOf(drafts, context, wanted);
      return made === undefined ? undefined : found(made);
    },
    drafts: (context) => draftsFor(drafts, context),
    signedBy: (draft, context) => found(signable(drafts, draft, context)).signed,
    sign: (draft, context) =>
      inTurn(async () => {
        const { signed } = found(signable(drafts, draft, context));
        if (signed) return signed;
        const fresh = { order: `order_${id()}`, intent: context.intent, at: now() };
        await write({ event: 'signed', draft, ...fresh });
        return fresh;
      }),
    unsaved: (session) => unsavedIn(drafts, session).map(({ draft }) => ({ id: draft, savable: true })),
    save: (session, handles) =>
      inTurn(async () => {
        const wanted = new Set(handles);
        for (const { draft } of unsavedIn(drafts, session))
          if (wanted.has(draft)) await write({ event: 'saved', draft, at: now() });
        return handles.filter((one) => drafts.get(one)?.state === 'saved' && isOf(drafts.get(one), session));
      }),
    close: () =>
      inTurn(async () => {
        await handle.close();
        await release();
      }),
  };
}

function isOf(draft: Draft | undefined, { sid, epoch }: DraftSession): boolean {
  return draft?.session?.sid === sid && draft.session.epoch === epoch;
}

function readEvents(text: string): Drafts {
  let drafts: Drafts = new Map();
  for (const [index, line] of text.split('\n').entries()) {
    if (line === '') continue;
    const event = OrderEvent.safeParse(parseJson(line));
    if (!event.success) throw new TypeError(`line ${index + 1} of the order book is no entry`);
    drafts = afterEvent(drafts, event.data);
  }
  return drafts;
}

/** The parser's own message quotes the line. */
function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
