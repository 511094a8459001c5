import type { PatientContext } from '@hmcp/core';
import * as z from 'zod';

/** One thing the person is asked to type or choose. There is never a suggested answer. */
export interface DialogField {
  readonly name: string;
  readonly title: string;
  /** `choice`: one of {@link choices}. */
  readonly kind: 'text' | 'date' | 'number' | 'yes-no' | 'choice';
  readonly required: boolean;
  readonly choices?: readonly string[] | undefined;
  readonly minLength?: number | undefined;
  readonly maxLength?: number | undefined;
}

/** What is put to the person before a switch. */
export interface SwitchDialog {
  /** The manager's own words; may name the patients, so it is for the person's eyes only: never logged, never given to a model. */
  readonly message: string;
  readonly fields: readonly DialogField[];
  /** 1 the first time; each wrong answer, and each answer that was lost, asks again. */
  readonly round: number;
  /** Whom the new grant names: what the page shows of that patient it reads by that grant. */
  readonly target: PatientContext;
}

/** What the person typed, by name of the field; or that they do not want to switch. */
export type SwitchAnswer = Readonly<Record<string, string | number | boolean>> | 'decline';

const Choice = z.object({ const: z.string() });
const Property = z.object({
  type: z.enum(['string', 'boolean', 'number', 'integer']),
  title: z.string().max(200).optional(),
  format: z.string().optional(),
  enum: z.array(z.string()).max(64).optional(),
  oneOf: z.array(Choice).max(64).optional(),
  minLength: z.int().optional(),
  maxLength: z.int().optional(),
});
type Property = z.infer<typeof Property>;
const Elicitation = z.object({
  method: z.literal('elicitation/create'),
  params: z.object({
    mode: z.literal('form').optional(),
    message: z.string().max(4096),
    requestedSchema: z.object({
      properties: z.record(z.string().max(64), Property),
      required: z.array(z.string()).optional(),
    }),
  }),
});

/** One dialog as a manager asks it: `key` names it in the answer. */
export interface AskedDialog {
  readonly key: string;
  readonly message: string;
  readonly fields: readonly DialogField[];
}

/** Reads what a manager wants asked; `undefined` when it is not exactly one form that can be shown. */
export function readDialog(requests: Readonly<Record<string, unknown>>): AskedDialog | undefined {
  const [only, ...others] = Object.entries(requests);
  if (only === undefined || others.length > 0) return undefined;
  const parsed = Elicitation.safeParse(only[1]);
  if (!parsed.success) return undefined;
  const { message, requestedSchema } = parsed.data.params;
  const required = new Set(requestedSchema.required);
  const fields = Object.entries(requestedSchema.properties).map(([name, property]) =>
    fieldOf(name, property, required.has(name)),
  );
  return { key: only[0], message, fields };
}

function fieldOf(name: string, property: Property, required: boolean): DialogField {
  const { title = name, minLength, maxLength } = property;
  const choices = property.enum ?? property.oneOf?.map((one) => one.const);
  return {
    name,
    title,
    kind: kindOf(property, choices),
    required,
    ...(choices === undefined ? {} : { choices }),
    ...(minLength === undefined ? {} : { minLength }),
    ...(maxLength === undefined ? {} : { maxLength }),
  };
}

function kindOf({ type, format }: Property, choices: readonly string[] | undefined): DialogField['kind'] {
  if (choices !== undefined) return 'choice';
  if (type === 'boolean') return 'yes-no';
  if (type !== 'string') return 'number';
  return format === 'date' ? 'date' : 'text';
}

/** The person's answer in the manager's form; only what was asked goes. */
export function replyOf(dialog: AskedDialog, answer: SwitchAnswer): Readonly<Record<string, unknown>> {
  if (answer === 'decline') return { [dialog.key]: { action: 'decline' } };
  const asked = new Set(dialog.fields.map(({ name }) => name));
  const content = Object.fromEntries(Object.entries(answer).filter(([name]) => asked.has(name)));
  return { [dialog.key]: { action: 'accept', content } };
}
