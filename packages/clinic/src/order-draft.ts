import * as z from 'zod';

/** What an order is for. */
export const OrderKind = z.enum(['medication', 'service']);
export type OrderKind = z.infer<typeof OrderKind>;

/** A session at one epoch: what an unsaved draft is sealed to. */
export const DraftSession = z.strictObject({ sid: z.string().min(1), epoch: z.int().nonnegative() });
export type DraftSession = z.infer<typeof DraftSession>;

const Handle = z.string().regex(/^(draft|order)_[A-Za-z0-9-]{1,64}$/);
/** Milliseconds since the epoch. */
const Moment = z.int().nonnegative();

/** One durable fact of the book; a line of its file. */
export const OrderEvent = z.discriminatedUnion('event', [
  z.strictObject({
    event: z.literal('drafted'),
    draft: Handle,
    pk: z.string().min(1),
    intent: z.string().min(1),
    kind: OrderKind,
    text: z.string().min(1),
    session: DraftSession.optional(),
    at: Moment,
  }),
  z.strictObject({ event: z.literal('saved'), draft: Handle, at: Moment }),
  z.strictObject({ event: z.literal('signed'), draft: Handle, order: Handle, intent: z.string().min(1), at: Moment }),
]);
export type OrderEvent = z.infer<typeof OrderEvent>;

/**
 * A draft of an order. `unsaved`: work of one epoch of one session, nowhere else to be seen; `saved`: kept for its patient;
 * `signed`: an order. It never moves to another patient.
 */
export interface Draft {
  readonly draft: string;
  /** Patient key. @see protocol section 8 */
  readonly pk: string;
  /** The person's act that made it; with `pk` its key. */
  readonly intent: string;
  readonly kind: OrderKind;
  readonly text: string;
  /** The session and epoch it was drafted in; absent outside sessions. */
  readonly session?: DraftSession | undefined;
  readonly state: 'unsaved' | 'saved' | 'signed';
  readonly draftedAt: number;
  readonly signed?: { readonly order: string; readonly intent: string; readonly at: number } | undefined;
}

/** Who asks: a patient, an act of the person, and the session it belongs to. */
export interface OrderContext {
  readonly pk: string;
  readonly intent: string;
  readonly session?: DraftSession | undefined;
}

/**
 * Why nothing was done: no such draft here and now (of another patient, of an epoch that passed unsaved, or none at all: one
 * answer for all three) · the act has drafted something else · it is signed already · too many are unsaved.
 */
export type DraftFault = 'unknown' | 'other' | 'signed' | 'full';

/** Most unsaved drafts of one session; as many as a vote can name. @see protocol section 6 */
export const MOST_UNSAVED = 32;

/** Every draft there is, by its handle. */
export type Drafts = ReadonlyMap<string, Draft>;

/** The drafts after one more event; what contradicts them is ignored. */
export function afterEvent(drafts: Drafts, event: OrderEvent): Drafts {
  const next = new Map(drafts);
  if (event.event === 'drafted') {
    const { event: _, at, session, ...rest } = event;
    if (!next.has(event.draft)) next.set(event.draft, { ...rest, session, draftedAt: at, state: session ? 'unsaved' : 'saved' });
    return next;
  }
  const draft = next.get(event.draft);
  if (draft === undefined || draft.state === 'signed') return next;
  if (event.event === 'saved') return next.set(draft.draft, { ...draft, state: 'saved' });
  const { order, intent, at } = event;
  return next.set(draft.draft, { ...draft, state: 'signed', signed: { order, intent, at } });
}

/** The draft this act made already, `undefined` when it may make one, or why it may not. */
export function draftOf(
  drafts: Drafts,
  { pk, intent, session }: OrderContext,
  wanted: Pick<Draft, 'kind' | 'text'>,
): Draft | DraftFault | undefined {
  const made = [...drafts.values()].find((draft) => draft.pk === pk && draft.intent === intent);
  if (made) return made.kind === wanted.kind && made.text === wanted.text ? made : 'other';
  return session !== undefined && unsavedIn(drafts, session).length >= MOST_UNSAVED ? 'full' : undefined;
}

/** The draft that may be signed now, or was signed by this same act; or why not. */
export function signable(drafts: Drafts, handle: string, context: OrderContext): Draft | DraftFault {
  const draft = drafts.get(handle);
  if (draft === undefined || !isHere(draft, context)) return 'unknown';
  return draft.signed === undefined || draft.signed.intent === context.intent ? draft : 'signed';
}

/** What may be shown and signed for this patient in this session, oldest first. */
export function draftsFor(drafts: Drafts, context: Pick<OrderContext, 'pk' | 'session'>): Draft[] {
  return [...drafts.values()].filter((draft) => draft.state !== 'signed' && isHere(draft, context));
}

/** What the session would lose with this epoch. */
export function unsavedIn(drafts: Drafts, session: DraftSession): Draft[] {
  return [...drafts.values()].filter((draft) => draft.state === 'unsaved' && sameSession(draft.session, session));
}

function isHere(draft: Draft, { pk, session }: Pick<OrderContext, 'pk' | 'session'>): boolean {
  return draft.pk === pk && (draft.state !== 'unsaved' || sameSession(draft.session, session));
}

function sameSession(a: DraftSession | undefined, b: DraftSession | undefined): boolean {
  return a !== undefined && a.sid === b?.sid && a.epoch === b.epoch;
}
