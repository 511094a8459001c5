import { type Grant, SealError, type TrustedManager } from '@hmcp/auth';
import { HmcpError, MANAGER_METHODS, MANAGER_TOOLS, type PatientContext, SessionFacts } from '@hmcp/core';
import type { AgentParts } from './agent-parts.js';
import { isDefinite } from './manager-client.js';
import { OWNER_SCOPE } from './managers.js';
import { isBeyondRenewal } from './seal-keeper.js';
import { readSeal } from './sealed-scope.js';
import type { Stay } from './session-acts.js';

/** Times an open that was not answered is repeated, with the same key. */
const MAX_FAILURES = 3;

/** A session's dealings with its manager about where it is: opening, seals, closing. @see protocol section 6 */
export class ManagedStay {
  readonly sid: string;
  readonly #parts: AgentParts;
  readonly #manager: TrustedManager;
  readonly #by: string;

  constructor(options: { sid: string; parts: AgentParts; manager: TrustedManager; by: string }) {
    this.sid = options.sid;
    this.#parts = options.parts;
    this.#manager = options.manager;
    this.#by = options.by;
  }

  /** Opens a session at a manager, on the patient of `grant`. @throws {HmcpError} the manager's refusal, 50301, or 40903 for a seal that does not fit */
  static async open(options: {
    parts: AgentParts;
    manager: TrustedManager;
    by: string;
    grant: Grant;
    context: PatientContext;
    participants: readonly string[];
    idempotencyKey: string;
  }): Promise<{ managed: ManagedStay; stay: Stay }> {
    const { parts, manager, grant, context, participants, idempotencyKey } = options;
    const client = parts.managers.client(manager);
    const args = { idempotencyKey, target: targetOf(context), participants };
    const token = () => parts.managers.token(manager, grant.accessToken, OWNER_SCOPE);
    for (let failures = 0; ; ) {
      try {
        const answer = await client.tool(MANAGER_TOOLS.open, args, { token });
        const facts = client.read(SessionFacts, 'result' in answer ? answer.result : undefined);
        const managed = new ManagedStay({ ...options, sid: facts.sid });
        const stay = { grant, context, epoch: facts.epoch };
        return { managed, stay: { ...stay, seal: await managed.checked(facts.seal, stay) } };
      } catch (error) {
        failures += 1;
        if (isDefinite(error) || failures >= MAX_FAILURES) throw error;
        await parts.wait(250 * failures);
      }
    }
  }

  /** The seal, when it is this manager's for exactly this stay. @throws {HmcpError} 40903 `check: "seal"`; 50301 without keys */
  async checked(seal: string | undefined, { grant, context, epoch }: Stay): Promise<string> {
    const claims = seal === undefined ? undefined : await this.#verified(seal);
    const fits =
      claims !== undefined &&
      claims.iss === this.#manager.issuer &&
      claims.sid === this.sid &&
      claims.epoch === epoch &&
      claims.patient === context.patient &&
      claims.fhirServer === context.fhirServer &&
      claims.tenant === context.tenant &&
      claims.encounter === context.encounter &&
      claims.sub_iss === grant.issuer &&
      (grant.subject === undefined || claims.sub === grant.subject) &&
      claims.azp === grant.clientId;
    if (seal === undefined || !fits) throw this.#refusal(40903, 'the seal is not of this session, patient and person');
    return seal;
  }

  /**
   * A live seal for a stay. Renewed as everybody does; one that expired too long ago is asked for anew.
   * @throws {HmcpError} 40901 when the session has gone on, or is about to; otherwise as {@link checked}
   */
  async seal(stay: Stay, seal = stay.seal): Promise<string> {
    const { managers, now } = this.#parts;
    const token = () => managers.token(this.#manager, stay.grant.accessToken, OWNER_SCOPE);
    if (seal !== undefined && !isBeyondRenewal(seal, now())) return managers.renewed(this.#manager, seal, token);
    const client = managers.client(this.#manager);
    const facts = client.read(SessionFacts, await client.method(MANAGER_METHODS.get, { sid: this.sid }, { token }));
    if (facts.epoch !== stay.epoch) throw this.#refusal(40901, 'the session has gone on', 'epoch');
    return this.checked(facts.seal, stay);
  }

  /** Closes the session at its manager. @throws {HmcpError} */
  async close(stay: Stay, switchId: string): Promise<void> {
    const { managers } = this.#parts;
    const token = () => managers.token(this.#manager, stay.grant.accessToken, OWNER_SCOPE);
    const args = { sid: this.sid, switchId, expectedEpoch: stay.epoch };
    await managers.client(this.#manager).tool(MANAGER_TOOLS.close, args, { token });
  }

  async #verified(seal: string) {
    try {
      await this.#parts.managers.seals?.verify(seal);
      return readSeal(seal);
    } catch (error) {
      if (error instanceof SealError) return undefined;
      throw new HmcpError(50301, { by: this.#by, check: 'seal' }, { reason: 'the keys of the manager cannot be had' });
    }
  }

  #refusal(code: 40901 | 40903, reason: string, check: 'seal' | 'epoch' = 'seal'): HmcpError {
    return new HmcpError(code, { by: this.#by, check }, { reason });
  }
}

/** Whom a tool of the manager is asked to open. */
export function targetOf({ patient, encounter }: PatientContext): { patient: string; encounter?: string } {
  return { patient, ...(encounter === undefined ? {} : { encounter }) };
}
