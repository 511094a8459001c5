import { AuthorityUnavailable } from '@hmcp/auth';
import {
  AbortArguments,
  type AuditRecord,
  type AuditSink,
  CloseArguments,
  DrainedParams,
  GetParams,
  HmcpError,
  JoinParams,
  MANAGER_METHODS,
  MANAGER_TOOLS,
  OpenArguments,
  PermitParams,
  RedeemParams,
  ReleaseParams,
  RenewParams,
  SwitchArguments,
  VoteParams,
} from '@hmcp/core';
import type * as z from 'zod';
import type { Attendance } from './attendance.js';
import type { Caller, Office } from './office.js';
import { grants } from './rights.js';
import { StoreUnavailable } from './store.js';
import type { Conversation, Switched, Switching } from './switching.js';
import type { Underway } from './underway.js';

/** Arguments that do not have the form of their operation: -32602. */
export class MalformedArguments extends Error {
  readonly code = -32602;

  constructor() {
    super('Invalid params');
    this.name = 'MalformedArguments';
  }
}

/** What a request is answered with: a result, or a dialog for the person. */
export type TrafficAnswer =
  | { readonly is: 'result'; readonly result: Readonly<Record<string, unknown>> }
  | Extract<Switched, { readonly is: 'dialog' }>;

/** The answer of a request, and what of it the audit names. */
interface Answer {
  readonly answer: TrafficAnswer;
  readonly sid?: string | undefined;
  readonly epoch?: number | undefined;
  readonly event?: AuditRecord['event'] | undefined;
}

/** What a request is, as the audit names it. */
interface Asked {
  readonly method: string;
  readonly tool?: string | undefined;
  readonly intent?: string | undefined;
}

/** Tools by name, with the schema of their arguments. */
export const TOOLS: Readonly<Record<string, { readonly args: z.ZodObject; readonly description: string }>> = {
  [MANAGER_TOOLS.open]: { args: OpenArguments, description: 'Opens a context session on a patient' },
  [MANAGER_TOOLS.switch]: {
    args: SwitchArguments,
    description: 'Switches a context session to another patient; a person confirms',
  },
  [MANAGER_TOOLS.abort]: { args: AbortArguments, description: 'Gives a pending switch up' },
  [MANAGER_TOOLS.close]: { args: CloseArguments, description: 'Closes a context session' },
};

/**
 * Manager traffic, a class of its own: no envelope; arguments name session and switch. Each request is one record, durable before its
 * answer leaves; transitions of a session have theirs besides.
 * @see protocol section 6
 */
export class Traffic {
  readonly #office: Office;
  readonly #attendance: Attendance;
  readonly #switching: Switching;
  readonly #audit: AuditSink;
  readonly #onFailure: (error: unknown) => void;
  readonly #underway: Underway;

  constructor(parts: {
    readonly office: Office;
    readonly attendance: Attendance;
    readonly switching: Switching;
    readonly audit: AuditSink;
    readonly underway: Underway;
    readonly onFailure: (error: unknown) => void;
  }) {
    this.#office = parts.office;
    this.#attendance = parts.attendance;
    this.#switching = parts.switching;
    this.#audit = parts.audit;
    this.#underway = parts.underway;
    this.#onFailure = parts.onFailure;
  }

  /** Serves a tool. @throws {HmcpError} a refusal, {@link MalformedArguments} */
  tool(
    name: string,
    args: unknown,
    caller: Caller,
    header: string | undefined,
    conversation: Conversation,
  ): Promise<TrafficAnswer> {
    const serve = async (): Promise<Answer> => {
      switch (name) {
        case MANAGER_TOOLS.open:
          return facts(await this.#attendance.open(read(OpenArguments, args), caller));
        case MANAGER_TOOLS.switch: {
          const wanted = read(SwitchArguments, args);
          if (!grants(caller.token, 'switch')) throw await this.#proposed(wanted, caller);
          const switched = await this.#switching.switch(wanted, caller, conversation);
          return switched.is === 'result' ? facts(switched.result) : { answer: switched, sid: wanted.sid };
        }
        case MANAGER_TOOLS.abort:
          return facts(await this.#switching.abort(read(AbortArguments, args), caller));
        case MANAGER_TOOLS.close:
          return facts(await this.#switching.close(read(CloseArguments, args), caller));
        default:
          throw new MalformedArguments();
      }
    };
    return this.#recorded({ method: 'tools/call', tool: Object.hasOwn(TOOLS, name) ? name : undefined }, caller, header, serve);
  }

  /** Serves a vendor method. @throws {HmcpError} a refusal, {@link MalformedArguments} */
  method(method: string, params: unknown, caller: Caller, header: string | undefined): Promise<TrafficAnswer> {
    const attendance = this.#attendance;
    const serve = async (): Promise<Answer> => {
      switch (method) {
        case MANAGER_METHODS.join:
          return facts(await attendance.join(read(JoinParams, params), caller));
        case MANAGER_METHODS.get:
          return facts(await attendance.get(read(GetParams, params), caller));
        case MANAGER_METHODS.vote:
          return facts(await attendance.vote(read(VoteParams, params), caller));
        case MANAGER_METHODS.drained:
          return facts(await attendance.drained(read(DrainedParams, params), caller));
        case MANAGER_METHODS.permit:
          return facts(await attendance.permit(read(PermitParams, params), caller));
        case MANAGER_METHODS.redeem:
          return facts(await attendance.redeem(read(RedeemParams, params), caller));
        case MANAGER_METHODS.renew: {
          const { seal, session } = await attendance.renew(read(RenewParams, params), caller);
          const { sid, epoch } = session;
          return { answer: { is: 'result', result: { seal } }, sid, epoch, event: 'seal.renewed' };
        }
        case MANAGER_METHODS.release: {
          const { sid, epoch } = await attendance.release(read(ReleaseParams, params), caller);
          return { answer: { is: 'result', result: {} }, sid, epoch };
        }
        default:
          throw new MalformedArguments();
      }
    };
    return this.#recorded({ method, intent: intentOf(method, params) }, caller, header, serve);
  }

  /** An agent, or a model through it, wants a switch: it is written down and not done. */
  async #proposed({ sid, switchId }: z.output<typeof SwitchArguments>, caller: Caller): Promise<Recorded> {
    const refusal = this.#office.refusal({ code: 40301, check: 'scope', reason: 'the token does not grant switching' }, caller);
    const { code, check, reason } = refusal;
    const by = await this.#office.actor(caller);
    await this.#durable({ ...by, event: 'switch.proposed', outcome: 4, code, check, reason, sid, switchId }, caller);
    return new Recorded(refusal);
  }

  #recorded(asked: Asked, caller: Caller, header: string | undefined, serve: () => Promise<Answer>): Promise<TrafficAnswer> {
    return this.#underway.add(this.#served(asked, caller, header, serve));
  }

  async #served(asked: Asked, caller: Caller, header: string | undefined, serve: () => Promise<Answer>): Promise<TrafficAnswer> {
    const by = { ...(await this.#office.actor(caller)), ...asked };
    try {
      if (header !== undefined && caller.token.patient !== undefined && header !== caller.token.patient)
        throw this.#office.refusal({ code: 40903, check: 'header', reason: 'header and token name different patients' }, caller);
      const { answer, sid, epoch, event = 'request.served' } = await serve();
      await this.#durable({ ...by, event, outcome: 0, sid, epoch }, caller);
      return answer;
    } catch (error) {
      if (error instanceof Recorded) throw error.refusal;
      if (error instanceof HmcpError && error.code === 50302) throw error;
      const found = this.#asRefusal(error, caller);
      // Whoever asked finds it, here and there, by what it was asked for.
      const refusal = found instanceof HmcpError ? found.withIntent(asked.intent) : found;
      const { code, check, reason } =
        refusal instanceof HmcpError ? refusal : { code: refusal.code, check: undefined, reason: 'the arguments are malformed' };
      await this.#durable({ ...by, event: 'request.refused', outcome: 4, code, check, reason }, caller);
      throw refusal;
    }
  }

  #asRefusal(error: unknown, caller: Caller): HmcpError | MalformedArguments {
    if (error instanceof HmcpError || error instanceof MalformedArguments) return error;
    this.#onFailure(error);
    const reason =
      error instanceof StoreUnavailable
        ? 'the session store did not answer'
        : error instanceof AuthorityUnavailable
          ? 'an authority did not answer'
          : 'the request could not be decided';
    return this.#office.refusal({ code: 50301, check: 'session', reason }, caller);
  }

  async #durable(record: AuditRecord, caller: Caller): Promise<void> {
    try {
      await this.#audit.append(record);
    } catch (error) {
      this.#onFailure(error);
      throw this.#office.refusal({ code: 50302, check: 'audit', reason: 'the record could not be made durable' }, caller);
    }
  }
}

/** A refusal that already stands in the audit. */
class Recorded extends Error {
  readonly refusal: HmcpError;

  constructor(refusal: HmcpError) {
    super(refusal.message);
    this.refusal = refusal;
  }
}

/** The intent a permit is asked for, where it has the form of one. */
function intentOf(method: string, params: unknown): string | undefined {
  const schema = method === MANAGER_METHODS.permit ? PermitParams : method === MANAGER_METHODS.redeem ? RedeemParams : undefined;
  return schema?.shape.intent.safeParse(Object(params).intent).data?.id;
}

function facts(result: { readonly sid: string; readonly epoch: number }): Answer {
  return { answer: { is: 'result', result: { ...result } }, sid: result.sid, epoch: result.epoch };
}

function read<S extends z.ZodObject>(schema: S, value: unknown): z.output<S> {
  const given = value ?? {};
  if (typeof given !== 'object' || Array.isArray(given)) throw new MalformedArguments();
  const { _meta, ...args } = given as Record<string, unknown>;
  const parsed = schema.safeParse(args);
  if (!parsed.success) throw new MalformedArguments();
  return parsed.data;
}
