import type { TrustedManager } from '@hmcp/auth';
import type { Records } from '@hmcp/clinic';
import type { Timing } from '@hmcp/context-manager';
import type { RecordedExchange } from './proxy.js';

/** An agent somebody adds to the world: its own program, run as `node MODULE CONFIG`. */
export interface ExtraParty {
  readonly name: string;
  /** Path of the program. */
  readonly module: string;
  /** Largest scope its tokens may have, as a client and as a resource. Absent: it takes no part in authorization at all. */
  readonly scope?: string | undefined;
  /** Which parties of the world call it by its name. @default nobody */
  readonly calledBy?: readonly string[] | undefined;
  /** Which parties of the world it calls by their names; they are the `peers` of its configuration. @default nobody */
  readonly calls?: readonly string[] | undefined;
  /**
   * The one party that starts it as its child and speaks to it over its pipes: then it listens nowhere, and its configuration is
   * the child's argument. @see protocol section 2.7
   */
  readonly childOf?: string | undefined;
  /** True when the portal names it in the sessions it opens. @default false */
  readonly participates?: boolean | undefined;
  /** True when it may cause effects in sessions. @default whether its scope can change anything */
  readonly effector?: boolean | undefined;
  /** False when it keeps no audit log. @default true */
  readonly audits?: boolean | undefined;
}

/** Least level the processes log at; they log to standard error. */
export type WorldLogLevel = 'warn' | 'error';

/** How a world is made. */
export interface WorldOptions {
  readonly records: Records;
  /** Where the records came from; `undefined` is the people this project ships. */
  readonly data?: string | undefined;
  /** Folder for keys, configurations and audit; made when absent. */
  readonly state: string;
  readonly extras?: readonly ExtraParty[] | undefined;
  /** Patients an account must not see; makes the account `visiting-nurse`. */
  readonly closedTo?: readonly string[] | undefined;
  /** How long participants of a switch may take. @default the context manager's own, 5 s each */
  readonly switchTiming?: Pick<Timing, 'voteMs' | 'drainMs'> | undefined;
  /** @default "warn" */
  readonly logLevel?: WorldLogLevel | undefined;
  readonly record?: ((exchange: RecordedExchange) => void) | undefined;
  /** Ends a start that is under way: what runs by then is stopped, and the start rejects with `stopped`. */
  readonly signal?: AbortSignal | undefined;
}

/** One party as others see it. */
export interface PartyAddress {
  readonly name: string;
  readonly url: string;
  /** Resource identifier, for parties that accept tokens. */
  readonly resource?: string | undefined;
  /** The party that starts it and speaks to it over its pipes: nobody listens at its address. */
  readonly childOf?: string | undefined;
}

/** What is needed to use a running world; also written to `<state>/world.json`. Development keys and accounts only. */
export interface WorldFacts {
  readonly issuer: string;
  readonly fhirServer: string;
  readonly portal: string;
  readonly parties: readonly PartyAddress[];
  readonly accounts: readonly { readonly username: string; readonly password: string; readonly name: string }[];
  /** The client `hmcp call` uses: may launch, and exchange for every agent. */
  readonly client: { readonly clientId: string; readonly redirectUri: string; readonly scope: string; readonly keyFile: string };
  /** Private signing keys of the authorization server, a JWK set. */
  readonly signingKeys: string;
  readonly audit: readonly string[];
  /** The context manager: its resource identifier, the clients that can be named in a session, and the file of its sessions. */
  readonly manager: {
    readonly resource: string;
    readonly participants: readonly string[];
    readonly store: string;
    readonly sealKeys: string;
    readonly trusted: TrustedManager;
  };
  readonly state: string;
  readonly records: string;
}
