import * as z from 'zod';

/** What a caller may do after a refusal: nothing, repeat the same request, or ask the person first. */
export type Retry = 'never' | 'same' | 'after_user';

/** What a refusal means, and what mends it. */
export interface Meaning {
  readonly name: string;
  readonly retry: Retry;
  readonly says: string;
  readonly mend: string;
}

/**
 * Every patient-context refusal: code, name, retry rule, meaning and mend. The codes travel as JSON-RPC error codes.
 * @see protocol section 4
 */
export const ERRORS = {
  40100: {
    name: 'unauthorized',
    retry: 'never',
    says: 'the access token is missing or not valid (stdio)',
    mend: 'send a valid access token for this server',
  },
  40101: {
    name: 'seal_expired',
    retry: 'same',
    says: 'the seal has expired',
    mend: 'renew the seal at the same epoch and repeat the same intent',
  },
  40300: {
    name: 'insufficient_scope',
    retry: 'never',
    says: 'the token lacks a scope (stdio)',
    mend: 'ask for the scope named in the challenge',
  },
  40301: {
    name: 'switch_forbidden',
    retry: 'never',
    says: 'this caller may not switch or join this session',
    mend: 'let the person switch at the portal',
  },
  40302: {
    name: 'patient_not_authorized',
    retry: 'never',
    says: 'the policy or the token does not allow this patient, or there is no such patient or resource',
    mend: 'launch for a patient this person may see',
  },
  40303: {
    name: 'operation_undeclared',
    retry: 'never',
    says: 'the operation declares no scope, so nobody may call it',
    mend: 'declare it with patientTool or in `operations` if it is about one patient; else leave it out: it is not for this chain',
  },
  40901: {
    name: 'stale_epoch',
    retry: 'after_user',
    says: 'the request belongs to an earlier patient, epoch or closed scope',
    mend: 'show the person what happened; never send the old intent again',
  },
  40902: {
    name: 'switch_in_progress',
    retry: 'same',
    says: 'another switch holds the session',
    mend: 'repeat after it has ended',
  },
  40903: {
    name: 'patient_mismatch',
    retry: 'never',
    says: 'token, seal, envelope, header, arguments or result do not name the same patient',
    mend: 'leave the patient out: the context fills it in',
  },
  40904: {
    name: 'switch_id_reused',
    retry: 'never',
    says: 'the switch id was used with other parameters',
    mend: 'use a new switch id',
  },
  41001: { name: 'session_closed', retry: 'never', says: 'the session is closed', mend: 'open a new session' },
  41201: {
    name: 'epoch_precondition',
    retry: 'after_user',
    says: 'the expected epoch is not the current one',
    mend: 'read the session again and let the person decide',
  },
  42201: {
    name: 'confirmation_failed',
    retry: 'after_user',
    says: 'the confirmation by the person did not hold',
    mend: 'ask the person again',
  },
  42301: { name: 'switching', retry: 'same', says: 'a switch is being decided', mend: 'repeat after it has ended' },
  42801: {
    name: 'context_required',
    retry: 'never',
    says: 'more patient context is needed than was sent',
    mend: 'send the envelope of a session, or launch with a patient',
  },
  42802: {
    name: 'permit_required',
    retry: 'after_user',
    says: 'an effect needs a live permit',
    mend: 'let the person act again in the current session',
  },
  50301: {
    name: 'authority_unavailable',
    retry: 'same',
    says: 'an authority or peer that had to be asked did not answer',
    mend: 'repeat when it answers again',
  },
  50302: {
    name: 'audit_unavailable',
    retry: 'same',
    says: 'the audit record could not be made durable',
    mend: 'repeat when the audit store accepts records again',
  },
} as const satisfies Record<number, Meaning>;

/** A code of {@link ERRORS}. */
export type HmcpErrorCode = keyof typeof ERRORS;

/** The checks a request passes at a hop, in the order of protocol section 3, then those outside a request. */
export const CHECKS = [
  'size',
  'token',
  'header',
  'envelope',
  'seal',
  'equality',
  'scope',
  'operation',
  'policy',
  'epoch',
  'argument',
  'result',
  'audit',
  'permit',
  'session',
  'confirmation',
  'exchange',
  'peer',
] as const;
/** Which check refused; `error.data.check`. @see protocol section 4 */
export type Check = (typeof CHECKS)[number];

type Sentences = Pick<Meaning, 'says' | 'mend'>;

/** Where one code has several causes, its check says which, and so how to mend it. Everything else is in {@link ERRORS}. */
export const BY_CHECK: Readonly<Partial<Record<HmcpErrorCode, Readonly<Partial<Record<Check, Sentences>>>>>> = {
  40301: {
    session: {
      says: 'the session does not name this caller, is not for this caller to switch or join, or does not exist: nobody is told which',
      mend: 'name every agent that takes part in `participants` of `openSession`, each registered at the manager, with `effector: true` where it joins as `effector`; a switch is for the person at the portal, outside every act',
    },
    scope: {
      says: 'the grant or the token lacks a scope that a session with a manager needs',
      mend: 'launch with `hmcp:context.switch hmcp:context.participate patient/Patient.r` beside the scopes of the calls; an agent leaves the switch to the person',
    },
  },
  40302: {
    peer: {
      says: 'the peer does not accept the token: it answered 401 or 403',
      mend: 'see the audit of the peer, which says why: most often another issuer, another audience than its `resource`, or its clock',
    },
    exchange: {
      says: 'the authorization server gave no token for the next hop',
      mend: 'register the caller for that peer, and both of them for the scope, at an authorization server that exchanges tokens; its audit says why',
    },
    token: {
      says: 'the grant or the token of this request ends before the call could',
      mend: 'launch again, or give the call a shorter `timeoutMs`',
    },
    scope: {
      says: 'the grant or the token of this request does not cover a scope that the call needs',
      mend: 'launch with `scope` and `onward` of every contract on the way; an agent that calls others names their scopes in `onward`',
    },
    argument: {
      says: 'the patient has no such resource: it does not exist, is of somebody else, or the FHIR server refused it, and nobody is told which',
      mend: 'ask for what this patient has; the audit of the server says what its FHIR server answered',
    },
    equality: {
      says: 'the seal is of another FHIR server than the token',
      mend: 'open a session on the FHIR server this token is for',
    },
  },
  40303: {
    argument: {
      says: 'the operation is declared with a `patientArgument` that its tool does not have, so the patient cannot be filled in',
      mend: 'correct `patientArgument` in `operations` of the server',
    },
  },
  40903: {
    argument: {
      says: 'an argument names another patient than the context',
      mend: 'leave the patient out: the context fills it in',
    },
    header: { says: '`X-HMCP-Patient` names another patient than token or envelope', mend: 'leave the header out' },
    equality: {
      says: 'token and envelope do not name the same patient, tenant, encounter or person',
      mend: 'send the envelope of the patient the token is for',
    },
    seal: {
      says: 'the seal is not valid here',
      mend: 'compare `trustDomain`, `keys` and `issuer` of that manager in `managers` of the server with the manager’s own, as `hmcp doctor` does; else get a seal of a manager it trusts',
    },
    result: {
      says: 'the result is not, or could not be shown to be, of the patient in context alone; nothing of it was released',
      mend: 'its audit says which: for a row of somebody else have that server looked at; for a part that nobody can check let the tool answer `structuredContent` and declare `output` for it (the `outputSchema` of a v1 tool does not count), or leave it out',
    },
  },
  42801: {
    header: {
      says: 'only `X-HMCP-Patient` names a patient, and here it may not',
      mend: 'send the envelope of a session, or launch with a patient',
    },
    seal: {
      says: 'a seal is needed that this server can believe, of the session of the token',
      mend: 'send the sealed envelope of the session; its manager must be in `managers` of the server',
    },
    peer: {
      says: 'a request about a patient would have reached a server that nobody declared',
      mend: 'declare the server in `peers` of the agent',
    },
    session: {
      says: 'the grant of a session names no patient, or its client was used inside a request that is not of that session',
      mend: 'launch with a patient, and use the client in its own session',
    },
  },
  42802: {
    seal: {
      says: 'an effect needs the sealed envelope of a session, because this server trusts a manager; the call brought none',
      mend: 'open the session with `manager`, at one this server trusts; see the guide on writes',
    },
    peer: {
      says: 'this server has nobody to ask for a permit',
      mend: 'give the server `permits` and `participation`, which `@hmcp/agent` makes',
    },
    operation: {
      says: 'the operation caused an effect that it does not declare',
      mend: 'declare `effect: true` in its contract or in `operations`',
    },
  },
  50301: {
    peer: {
      says: 'the peer, or a FHIR or authorization server that the call needs, did not answer, or what answers at its address is no MCP server',
      mend: 'repeat when it answers again; if it never does, compare its address in `peers` (or `resource`) with where it listens: `hmcp doctor` asks it',
    },
    token: {
      says: 'the authorization server, or its keys, could not be had: the token was not verified',
      mend: 'repeat when it answers again; if it never does, compare `issuer` in `issuers` with its metadata: `hmcp doctor` asks it',
    },
    seal: {
      says: 'the seal was not verified: the keys of the context manager could not be had, or no more sessions can be remembered',
      mend: 'repeat when they can be had again; if they never can, compare `jwksUri` in `managers` with where it publishes them: `hmcp doctor` asks it',
    },
    session: {
      says: 'the context manager, or who had to answer it, did not answer, or not as the protocol says: how the session stands is not known here',
      mend: 'repeat when it answers again; if it never does, compare its address with where it listens: `hmcp doctor` asks it',
    },
  },
};

/**
 * `error.data` of a refusal. Holds nothing the caller did not send: no patient, no text of an exception.
 * `by` is the resource identifier of the refuser, `hop` its place in the chain (1 = first server). Both come from a peer and
 * are shown to people: no spaces, no control characters.
 * @see protocol section 4
 */
export const RefusalData = z.object({
  retry: z.enum(['never', 'same', 'after_user']),
  by: z.string().regex(/^[\x21-\x7E]{1,2048}$/),
  hop: z.int().min(1).max(16).optional(),
  check: z.enum(CHECKS),
  intent: z
    .string()
    .regex(/^[A-Za-z0-9\-_.]{1,128}$/)
    .optional(),
});
export type RefusalData = z.infer<typeof RefusalData>;

/** True for a number that {@link ERRORS} defines. */
export function isHmcpErrorCode(code: unknown): code is HmcpErrorCode {
  return typeof code === 'number' && Object.hasOwn(ERRORS, code);
}

/**
 * A refusal as an exception. `code` is the JSON-RPC code, `check` the rule that refused, `data` what crosses the wire, `message` what
 * the code means where that check refused.
 * `reason` is for the local audit; it is no own property, so that no serializer carries it out of the process.
 * @see protocol section 4
 */
export class HmcpError extends Error {
  readonly code: HmcpErrorCode;
  readonly data: RefusalData;
  readonly #reason: string | undefined;

  constructor(code: HmcpErrorCode, data: Omit<RefusalData, 'retry'>, options: { reason?: string; cause?: unknown } = {}) {
    const says = BY_CHECK[code]?.[data.check]?.says ?? ERRORS[code].says;
    super(`${ERRORS[code].name}: ${says}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'HmcpError';
    this.code = code;
    this.data = { ...data, retry: ERRORS[code].retry };
    this.#reason = options.reason;
  }

  /** Why, in fixed words of the program; for the local audit. */
  get reason(): string | undefined {
    return this.#reason;
  }

  /** The check that refused. */
  get check(): Check {
    return this.data.check;
  }

  /** The same refusal, of the intent it was asked for; one that names an intent stays as it is. */
  withIntent(intent: string | undefined): HmcpError {
    if (intent === undefined || this.data.intent !== undefined) return this;
    return new HmcpError(this.code, { ...this.data, intent }, this.#reason === undefined ? {} : { reason: this.#reason });
  }

  /**
   * Reads a refusal from a JSON-RPC error (`{ code, data }`) of any SDK; `undefined` when it is not one of ours.
   * The retry rule is the code's own, whatever the peer says.
   */
  static from(error: unknown): HmcpError | undefined {
    if (error instanceof HmcpError) return error;
    if (typeof error !== 'object' || error === null) return undefined;
    const { code, data } = error as { code?: unknown; data?: unknown };
    if (!isHmcpErrorCode(code)) return undefined;
    const parsed = RefusalData.safeParse(data);
    return parsed.success ? new HmcpError(code, parsed.data) : undefined;
  }
}
