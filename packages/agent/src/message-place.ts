import { currentScope, type RequestScope } from '@hmcp/core/request-scope';

/** The scope a message goes with: its patient, token, intent and epoch. */
export interface MessagePlace {
  /** `undefined`: the message belongs to no request. */
  readonly scope: RequestScope | undefined;
  /** To be called when the message is settled. Idempotent. */
  readonly end: () => void;
}

/** Says where a message that is about to leave belongs. @throws {HmcpError} when it may not leave from where it was written */
export type PlaceMessage = () => Promise<MessagePlace>;

/** A server's clients: a message belongs to the request that is being served. */
export const inCurrentScope: PlaceMessage = async () => ({ scope: currentScope(), end: () => undefined });
