import { AuthorityUnavailable } from './authority.js';

/** May this person, through this client, do this for this patient? Everything the answer may depend on. */
export interface AccessQuestion {
  readonly issuer: string;
  readonly subject: string;
  readonly fhirUser?: string | undefined;
  readonly clientId: string;
  readonly tenant?: string | undefined;
  readonly fhirServer: string;
  readonly patient: string;
  /** Name of the operation. */
  readonly operation: string;
  /** True when the operation can change something. */
  readonly effect: boolean;
}

/**
 * Decides access where a token does not pin a patient (`user/`, `system/` and un-prefixed scopes) and filters directories.
 * Throwing means "could not decide", which is answered 50301 and serves nothing.
 * @see protocol sections 2.1 and 7
 */
export interface AccessPolicy {
  decide(question: AccessQuestion): Promise<'allow' | 'deny'>;
}

/**
 * Asks the policy: without one the answer is `deny`, and so is anything it says but `allow`.
 * @param options.timeoutMs how long it may take. Default 5000
 * @throws {AuthorityUnavailable} when the policy throws or is late (50301)
 * @see protocol sections 0 and 4
 */
export async function askAccessPolicy(
  policy: AccessPolicy | undefined,
  question: AccessQuestion,
  options: { readonly timeoutMs?: number | undefined } = {},
): Promise<'allow' | 'deny'> {
  if (policy === undefined) return 'deny';
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new AuthorityUnavailable('access policy late')), options.timeoutMs ?? 5000);
  });
  try {
    const answer = await Promise.race([Promise.resolve(policy.decide(question)), late]);
    return answer === 'allow' ? 'allow' : 'deny';
  } catch (error) {
    throw error instanceof AuthorityUnavailable ? error : new AuthorityUnavailable('access policy failed');
  } finally {
    clearTimeout(timer);
  }
}
