import type { PermitResult } from './session.js';

/** Whose authority a permit is asked with: the request's own token, verified seal and intent. */
export interface PermitBearer {
  /** The verified inbound access token; exchanged for the manager, never forwarded. */
  readonly accessToken: string;
  /** The verified seal of the request. */
  readonly seal: string;
  readonly intent: { readonly id: string; readonly epoch: number };
}

/** The one effect a permit is for. */
export interface PermittedEffect {
  readonly operation: string;
  /** Printable ASCII, 1 to 256. */
  readonly effectKey: string;
  /** @default 10000, the longest */
  readonly ttlMs?: number | undefined;
}

/** A permit, and until when its holder may use it. */
export interface HeldPermit extends PermitResult {
  /** Milliseconds by the holder's own clock, counted from before it asked. */
  readonly usableUntil: number;
}

/**
 * Asks a session's manager for the right to cause an effect. A server is handed one; `@hmcp/agent` implements it.
 * All reject with an `HmcpError`: 42301 a switch is being decided, 40901 the epoch passed, 42802 no live permit, 40301 no effector
 * of this session, 41001 closed, 40302 or 50301 the manager could not be asked.
 * @see protocol section 6, "effects"
 */
export interface PermitAuthority {
  permit(effect: PermittedEffect, bearer: PermitBearer): Promise<HeldPermit>;
  /** Uses up a permit that came in an envelope: once. */
  redeem(permit: string, bearer: PermitBearer): Promise<HeldPermit>;
  /** Gives one back. */
  release(permit: string, bearer: PermitBearer): Promise<void>;
}
