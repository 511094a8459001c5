import { FhirId } from '@hmcp/core';

/** Thrown instead of a token that would claim patient scopes without saying whose. */
export class UnpinnedToken extends Error {
  constructor() {
    super('a token with a patient scope needs a patient');
    this.name = 'UnpinnedToken';
  }
}

/**
 * The last look at every token before it is signed, whichever grant it comes from: any scope starting with `patient/`, even one
 * nobody can parse, needs a valid `patient` claim.
 * @throws {UnpinnedToken}
 * @see protocol section 2.1
 */
export function assertPinned(claims: { readonly scope?: unknown; readonly patient?: unknown }): void {
  const { scope, patient } = claims;
  if (scope !== undefined && typeof scope !== 'string') throw new UnpinnedToken();
  const wantsPatient = (scope ?? '').split(/\s+/).some((member) => member.toLowerCase().startsWith('patient/'));
  if (patient === undefined ? wantsPatient : !FhirId.safeParse(patient).success) throw new UnpinnedToken();
}
