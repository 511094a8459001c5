import * as z from 'zod';
import type { Identifiers } from './identifiers.js';

/** How the person confirms: `C1` everything shown and confirmed, `C2` two identifiers typed. @see protocol section 6 */
export type ConfirmationLevel = 'C1' | 'C2';

/** A participant's unsaved work, in numbers: no text of an agent reaches the dialog. */
export interface UnsavedNotice {
  /** Name under which the client is registered at the manager. */
  readonly name: string;
  readonly savable: number;
  readonly lost: number;
}

/** A dialog as the client shows it. The schema holds no default and no list of answers. */
export interface Dialog {
  readonly message: string;
  readonly requestedSchema: {
    readonly type: 'object';
    readonly properties: Readonly<Record<string, DialogField>>;
    readonly required: string[];
  };
}

type DialogField =
  | {
      readonly type: 'string';
      readonly title: string;
      readonly format?: 'date';
      readonly minLength?: number;
      readonly maxLength?: number;
    }
  | { readonly type: 'boolean'; readonly title: string };

/** True when a dialog can be made of these identifiers: C2 needs two. */
export function canConfirm(level: ConfirmationLevel, { name, birthDate, recordNumberLast4 }: Identifiers): boolean {
  const typed = birthDate !== undefined && recordNumberLast4 !== undefined;
  return level === 'C2' ? typed : name !== '' && (birthDate !== undefined || recordNumberLast4 !== undefined);
}

/**
 * The dialog for opening a patient. At C2 it shows the name only, so that what is typed is not copied from it; at C1 it shows every
 * identifier and asks for one confirmation.
 * @param again true after a wrong answer; never which field was wrong
 * @see protocol section 6
 */
export function dialogFor(level: ConfirmationLevel, who: Identifiers, notices: readonly UnsavedNotice[], again: boolean): Dialog {
  const told = notices.map(({ name, savable, lost }) =>
    [
      savable > 0
        ? `${name} will save ${savable} unsaved ${savable === 1 ? 'item' : 'items'} of the patient you are leaving.`
        : '',
      lost > 0 ? `${name} will lose ${lost} unsaved ${lost === 1 ? 'item' : 'items'} of the patient you are leaving.` : '',
    ]
      .filter(Boolean)
      .join(' '),
  );
  if (level === 'C1') {
    const shown = [
      who.name,
      who.birthDate === undefined ? '' : `born ${who.birthDate}`,
      who.gender ?? '',
      who.recordNumberLast4 === undefined ? '' : `record number ending in ${who.recordNumberLast4}`,
    ].filter(Boolean);
    return {
      message: [`Opening: ${shown.join(', ')}.`, ...told].join(' '),
      requestedSchema: {
        type: 'object',
        properties: { confirm: { type: 'boolean', title: 'This is the patient I mean' } },
        required: ['confirm'],
      },
    };
  }
  const retry = again ? 'What was typed does not match. ' : '';
  return {
    message: [`${retry}Opening: ${who.name}. Type two identifiers of the patient you are opening.`, ...told].join(' '),
    requestedSchema: {
      type: 'object',
      properties: {
        birthDate: { type: 'string', title: 'Date of birth', format: 'date' },
        recordNumberLast4: { type: 'string', title: 'Record number, last four characters', minLength: 4, maxLength: 4 },
      },
      required: ['birthDate', 'recordNumberLast4'],
    },
  };
}

/** What the client sent back, as received: untrusted. */
const Response = z.object({ action: z.enum(['accept', 'decline', 'cancel']), content: z.unknown().optional() });
const Shown = z.object({ confirm: z.literal(true) });
const Typed = z.object({ birthDate: z.string().max(32), recordNumberLast4: z.string().max(32) });

/** `declined` when the person said no or closed the dialog, else whether the answer was right. Anything malformed is wrong. */
export function judge(level: ConfirmationLevel, response: unknown, who: Identifiers): 'right' | 'wrong' | 'declined' {
  const parsed = Response.safeParse(response);
  if (!parsed.success) return 'wrong';
  if (parsed.data.action !== 'accept') return 'declined';
  const { content } = parsed.data;
  if (level === 'C1') return Shown.safeParse(content).success ? 'right' : 'wrong';
  const typed = Typed.safeParse(content);
  if (!typed.success || who.birthDate === undefined || who.recordNumberLast4 === undefined) return 'wrong';
  const birthDate = typed.data.birthDate.trim() === who.birthDate;
  const number = typed.data.recordNumberLast4.trim().toUpperCase() === who.recordNumberLast4;
  return birthDate && number ? 'right' : 'wrong';
}
