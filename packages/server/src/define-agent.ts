import type { AccessPolicy, TokenExchanger, TokenVerifier, TrustedManager } from '@hmcp/auth';
import type { AuditSink, ContextMode, HeaderTransition, OperationTable, Participation, PermitAuthority } from '@hmcp/core';
import type { Outbound } from '@hmcp/core/request-scope';
import type { createMcpHandler, McpServerFactory } from '@modelcontextprotocol/server';

/** What a server tells its operators; fixed sentences, so that nothing of a request can get into a log. */
export type ServerNotice =
  | 'an operation is undeclared and answers 40303: declare it with patientTool or in `operations` if it is about one patient; else leave it out: it is not for this chain'
  | 'the server factory could not be inspected at start'
  | 'a request could not be decided'
  | 'an answer could not be settled'
  | 'an audit record could not be made durable'
  | 'a stdio message could not be served'
  | 'a body was read before the gate: put the gate first'
  | 'a declared tool is not in the list of tools: correct its name in `operations`'
  | 'a declared patientArgument is no property of its tool’s input schema: correct it in `operations`'
  | 'the arguments do not satisfy the input schema of the tool: see whether its patientArgument is the right one'
  | 'a context manager did not answer'
  | 'an answer of a transport that is not protected was withheld: hand each transport to `protect`';

/** Allow-listed fields beside a notice: the class of an error, the kind and name of one of this server's own operations. */
export interface NoticeFields {
  readonly err?: unknown;
  readonly method?: string | undefined;
  readonly tool?: string | undefined;
}

/** Where a server writes its notices; the logger of `@hmcp/audit` fits. */
export interface ServerLog {
  warn(fields: NoticeFields, notice: ServerNotice): void;
  error(fields: NoticeFields, notice: ServerNotice): void;
}

/**
 * The deployment an agent runs in. Production, `hmcp dev` and tests hand the same agent another one.
 * There is no member that turns a check off.
 */
export interface AgentEnv {
  /** This server's resource identifier (RFC 9728): its public URL, and the audience of every token it accepts. */
  readonly resource: string;
  /** Issuers this server points callers to, in its protected-resource metadata. */
  readonly authorizationServers: readonly string[];
  readonly verifier: TokenVerifier;
  readonly audit: AuditSink;
  /** HMAC key of `pk` and subjects in this server's audit rows: 16 characters or more, 32 random ones are advised. */
  readonly pseudonymKey: string;
  /** How much context a request must bring. @default "token" */
  readonly context?: ContextMode | undefined;
  /** Declarations for tools, resources, prompts and methods that were not registered with `patientTool`. */
  readonly operations?: OperationTable | undefined;
  /** Decides for tokens that name no patient, as `httpAccessPolicy` of `@hmcp/auth` does; without one they are refused (40302). */
  readonly policy?: AccessPolicy | undefined;
  /** Longest wait for the policy, milliseconds. @default 5000 */
  readonly policyTimeoutMs?: number | undefined;
  /** Exchanges tokens for the handler's own `fhir` client. */
  readonly tokens?: TokenExchanger | undefined;
  /** Calls other agents in the context of the request being served; made by `@hmcp/agent`. */
  readonly outbound?: Outbound | undefined;
  /**
   * Context managers whose seals are believed here. With any, an effect needs a seal and a permit; with none, a sealed envelope
   * is refused (42801) and an effect is allowed by token and policy, audited `fence: none`. @default []
   */
  readonly managers?: readonly TrustedManager[] | undefined;
  /** Asks a session's manager for permits; made by `@hmcp/agent`. Without it, effects inside a session are refused (42802). */
  readonly permits?: PermitAuthority | undefined;
  /** This process's part in sessions; made by `@hmcp/agent`. Without it, a manager's messages are refused (40303). */
  readonly participation?: Participation | undefined;
  /** Until when, and for whom, `X-HMCP-Patient` may name the patient by itself. @default never */
  readonly transition?: HeaderTransition | undefined;
  /** What happens to free text and undeclared JSON, which nobody can check. @default "release" (and audited) */
  readonly unverifiable?: 'release' | 'withhold' | undefined;
  /** Origins a browser may call from, besides this server's own. @default [] */
  readonly allowedOrigins?: readonly string[] | undefined;
  readonly log?: ServerLog | undefined;
  /** Milliseconds since the epoch. @default Date.now */
  readonly now?: (() => number) | undefined;
  /** Milliseconds of a clock that is never set back; permits are timed by it. @default `now` where given, else performance.now */
  readonly monotonic?: (() => number) | undefined;
  /** @default globalThis.fetch */
  readonly fetch?: typeof globalThis.fetch | undefined;
}

/** An HMCP server, web-standard: `fetch` serves one HTTP request. Mount it on Node with `serve`. */
export interface HmcpHandler {
  /** Serves MCP at the path of `env.resource`, and the protected-resource metadata. */
  readonly fetch: (request: Request) => Promise<Response>;
  /** Resolves, once the factory has run for inspection, to the operations it registered without declaring them. */
  readonly undeclared: Promise<readonly string[]>;
  /** The guarded factory, for other carriers (stdio). */
  readonly factory: McpServerFactory;
  readonly env: AgentEnv;
  /** Tells listeners that a resource changed; carries no data. */
  readonly notify: ReturnType<typeof createMcpHandler>['notify'];
  close(): Promise<void>;
}

/** An agent: a name, and a function from its deployment to the handler that serves it. */
export interface AgentDefinition {
  readonly name: string;
  create(env: AgentEnv): HmcpHandler;
}

/**
 * Defines an agent as a function of its deployment. Nothing starts until it is served.
 * @throws {TypeError} when the name is not `[a-z][a-z0-9-]*`
 */
export function defineAgent(name: string, create: (env: AgentEnv) => HmcpHandler): AgentDefinition {
  if (!/^[a-z][a-z0-9-]{0,63}$/.test(name)) throw new TypeError('"name" of an agent must match [a-z][a-z0-9-]*');
  return { name, create };
}
