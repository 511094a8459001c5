import type * as z from 'zod';
import { unusable } from './explain.js';
import { canChange, parseScopes } from './scopes.js';

/** Whether an operation is about the patient in context, or about nobody. @see protocol section 3 */
export type PatientScope = 'required' | 'none';

/**
 * What a server declares about one operation. Without it the operation is left out of lists and answers 40303.
 * @see protocol section 3
 */
export interface Operation {
  /** Space-separated scopes demanded at this hop. */
  readonly scope: string;
  /** What the handler's own calls need, transitively; part of every exchange for this operation. */
  readonly onward?: string | undefined;
  /** True when calling it changes something; also implied by a scope with c, u, d or write. @default false */
  readonly effect?: boolean | undefined;
  /** Name of the argument that names the patient: compared, hidden from the listed schema, filled in. `null`: it takes none. */
  readonly patientArgument?: string | null | undefined;
  /** @default "required" */
  readonly patientScope?: PatientScope | undefined;
  /** Schema of `structuredContent`; JSON of an operation without one is `unverifiable`. */
  readonly output?: z.ZodType | undefined;
}

/** Declarations by kind and name; a key of `methods` is a custom method, of `resources` a URI or template. */
export interface OperationTable {
  readonly tools?: Readonly<Record<string, Operation>> | undefined;
  readonly resources?: Readonly<Record<string, Operation>> | undefined;
  readonly prompts?: Readonly<Record<string, Operation>> | undefined;
  readonly methods?: Readonly<Record<string, Operation>> | undefined;
}

/**
 * One contract for both sides of a tool: the server registers it, the caller calls it. Its input names no patient.
 */
export interface PatientTool<I extends z.ZodObject = z.ZodObject, O extends z.ZodType = z.ZodType> extends Operation {
  readonly name: string;
  readonly description: string;
  readonly input: I;
  readonly output: O;
}

/**
 * Declares a {@link PatientTool}. @throws {TypeError} when the name or a scope is unusable
 */
export function definePatientTool<I extends z.ZodObject, O extends z.ZodType>(tool: PatientTool<I, O>): PatientTool<I, O> {
  if (!/^[A-Za-z0-9_.-]{1,128}$/.test(tool.name))
    throw new TypeError(`"name" of a patient tool must match [A-Za-z0-9_.-]{1,128}`);
  if (tool.scope.trim() === '') throw unusable(`"scope" of patient tool ${tool.name} is empty`, 40303);
  for (const member of ['scope', 'onward'] as const) {
    const beyond = parseScopes(tool[member] ?? '').find(({ kind }) => !DEMANDABLE.has(kind));
    if (beyond) throw unusable(`"${member}" of patient tool ${tool.name}: no token can satisfy "${beyond.raw}"`, 403);
  }
  return tool;
}

const DEMANDABLE: ReadonlySet<string> = new Set(['resource', 'hmcp', 'access', 'control']);

/**
 * True when the operation can change something: declared so, or its scope has c, u, d or write, or cannot be read.
 * @see protocol section 6
 */
export function isEffect(operation: Operation): boolean {
  return operation.effect === true || canChange(parseScopes(operation.scope));
}
