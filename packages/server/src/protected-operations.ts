import type { Operation, OperationTable } from '@hmcp/core';
import { UriTemplate } from '@modelcontextprotocol/server';

/**
 * An operation of a server that was not written for HMCP, which may take anything as an argument: it is about nobody, or says which
 * argument names the patient; `null` says that it takes none.
 */
export type ProtectedOperation = Operation & ({ readonly patientArgument: string | null } | { readonly patientScope: 'none' });

/** Declarations of such a server. A resource takes arguments only by the variables of its template. @see protocol section 3 */
export interface ProtectedOperations extends OperationTable {
  readonly tools?: Readonly<Record<string, ProtectedOperation>> | undefined;
  /** A template names the variable that is the patient, or `null`. */
  readonly resources?: Readonly<Record<string, Operation>> | undefined;
  readonly prompts?: Readonly<Record<string, ProtectedOperation>> | undefined;
  readonly methods?: Readonly<Record<string, ProtectedOperation>> | undefined;
}

/**
 * Checks that nothing about a patient is left open: an argument with a name nobody could guess would be handed on unseen.
 * @throws {TypeError} naming the operation and the mend
 */
export function checkStated(operations: ProtectedOperations): void {
  for (const kind of ['tools', 'prompts', 'methods'] as const) {
    for (const [name, operation] of Object.entries(operations[kind] ?? {})) checkWord(`operations.${kind}`, name, operation);
  }
  for (const [uri, operation] of Object.entries(operations.resources ?? {})) {
    const variables = variablesOf(uri);
    if (variables.length > 0) checkWord('operations.resources', uri, operation);
    const { patientArgument } = operation;
    if (typeof patientArgument === 'string' && !variables.includes(patientArgument))
      throw new TypeError(`"patientArgument" of ${quoted(uri)} in "operations.resources" is no variable of that template`);
  }
}

function checkWord(where: string, name: string, { patientScope, patientArgument }: Operation): void {
  if (patientScope === 'none' || patientArgument === null) return;
  if (typeof patientArgument === 'string' && patientArgument !== '') return;
  const mend = `Mend: patientArgument: 'name of the argument', or null when it takes none; patientScope: 'none' when it is about nobody.`;
  throw new TypeError(`${quoted(name)} in "${where}" does not say which argument names the patient. ${mend}`);
}

function quoted(name: string): string {
  return JSON.stringify(name);
}

/** Of a template that is none, the declarations say so. */
function variablesOf(uri: string): readonly string[] {
  if (!uri.includes('{')) return [];
  try {
    return new UriTemplate(uri).variableNames;
  } catch {
    return [];
  }
}
