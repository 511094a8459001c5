import { ExchangeRefused, type TokenExchanger } from '@hmcp/auth';
import { coversAll, effectiveScopes, parseScopes, type VerifiedToken } from '@hmcp/core';
import * as z from 'zod';
import type { Subject } from './session-row.js';

/** What tells one person from another in a dialog. Never stored, logged or sent to anybody but the person who asks. */
export interface Identifiers {
  readonly name: string;
  /** `YYYY-MM-DD`; absent when the record has no full date. */
  readonly birthDate?: string | undefined;
  /** Last four characters of the record number, upper case. */
  readonly recordNumberLast4?: string | undefined;
  readonly gender?: string | undefined;
}

/** Why the identifiers of the patient to be opened could not be read: `denied` (or no such patient), or `unavailable`. */
export class IdentifiersFailure extends Error {
  readonly kind: 'denied' | 'unavailable';

  constructor(kind: 'denied' | 'unavailable') {
    super('the identifiers of the patient could not be read');
    this.name = 'IdentifiersFailure';
    this.kind = kind;
  }
}

/** Reads the identifiers of a subject with the token of the request that opens it. */
export type ReadIdentifiers = (
  subject: Subject,
  caller: { readonly token: VerifiedToken; readonly accessToken: string },
) => Promise<Identifiers>;

const Text = z.string().max(1000);
const PatientResource = z.object({
  resourceType: z.literal('Patient'),
  id: z.string(),
  name: z
    .array(z.object({ use: Text.optional(), text: Text.optional(), family: Text.optional(), given: z.array(Text).optional() }))
    .optional(),
  birthDate: z.string().optional(),
  gender: z.string().optional(),
  identifier: z
    .array(
      z.object({
        use: Text.optional(),
        system: Text.optional(),
        value: Text.optional(),
        type: z.object({ coding: z.array(z.object({ code: Text.optional() })).optional() }).optional(),
      }),
    )
    .optional(),
});
type PatientResource = z.infer<typeof PatientResource>;

const TIMEOUT_MS = 5000;
const MAX_BYTES = 256 * 1024;

/**
 * Reads `Patient/<id>` from the FHIR server itself, with the caller's token exchanged for it: nothing an agent or a model says
 * about a patient is ever shown. A refused exchange, a refusal and a missing patient are the same `denied`.
 * @see protocol section 6
 */
export function fhirIdentifiers(options: {
  readonly tokens: TokenExchanger;
  readonly fetch?: typeof globalThis.fetch | undefined;
}): ReadIdentifiers {
  const fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  return async ({ fhirServer, patient }, { token, accessToken: subjectToken }) => {
    const scope = patientScope(token);
    let response: Response;
    let text: string;
    try {
      const { accessToken } = await options.tokens.exchange({ subjectToken, resource: fhirServer, scope });
      response = await fetch(`${fhirServer}/Patient/${patient}`, {
        headers: { Authorization: `Bearer ${accessToken}`, Accept: 'application/fhir+json' },
        redirect: 'error',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      text = await response.text();
    } catch (error) {
      throw new IdentifiersFailure(error instanceof ExchangeRefused ? 'denied' : 'unavailable');
    }
    if (response.status >= 500 || response.status === 429 || text.length > MAX_BYTES) throw new IdentifiersFailure('unavailable');
    if (!response.ok) throw new IdentifiersFailure('denied');
    return identifiersOf(text, patient);
  };
}

/** The scope the exchange asks for: the level at which the token can read this patient. */
function patientScope(token: VerifiedToken): string {
  const required = 'patient/Patient.r';
  return coversAll(effectiveScopes(token.scopes, token), parseScopes(required)) ? required : 'user/Patient.r';
}

function identifiersOf(text: string, patient: string): Identifiers {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new IdentifiersFailure('unavailable');
  }
  const parsed = PatientResource.safeParse(json);
  if (!parsed.success) throw new IdentifiersFailure('unavailable');
  if (parsed.data.id !== patient) throw new IdentifiersFailure('denied');
  const { birthDate, gender } = parsed.data;
  return {
    name: nameOf(parsed.data),
    birthDate: birthDate !== undefined && /^\d{4}-\d{2}-\d{2}$/.test(birthDate) ? birthDate : undefined,
    recordNumberLast4: recordNumberOf(parsed.data),
    gender: ['male', 'female', 'other', 'unknown'].includes(gender ?? '') ? gender : undefined,
  };
}

function nameOf({ name = [] }: PatientResource): string {
  const shown = name.find(({ use }) => use === 'official') ?? name[0];
  const text = shown?.text ?? [shown?.family?.toUpperCase(), shown?.given?.join(' ')].filter(Boolean).join(', ');
  // One line of plain text: nothing in a record may lay out the dialog.
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ').slice(0, 120);
}

/** The medical record number (`MR`), else the only identifier in use. */
function recordNumberOf({ identifier = [] }: PatientResource): string | undefined {
  const current = identifier.filter(({ use, value }) => use !== 'old' && use !== 'temp' && value !== undefined);
  const number = current.find(({ type }) => type?.coding?.some(({ code }) => code === 'MR')) ?? current[0];
  const characters = number?.value?.trim().toUpperCase() ?? '';
  return /^[\x21-\x7E]{4,}$/.test(characters) ? characters.slice(-4) : undefined;
}
