import { AUDIT_REASONS } from '@hmcp/core';
import type { AgentEnv, ServerNotice } from './define-agent.js';
import { isJsonObject, type Json, type Message } from './message.js';
import type { Declarations } from './operations.js';

/** A list as it may be shown. */
export interface Shown {
  readonly result: Json;
  /** How many entries were left out, because nobody declared them. */
  readonly leftOut: number;
}

const ABSENT = 'a declared tool is not in the list of tools: correct its name in `operations`' satisfies ServerNotice;
const NO_PROPERTY =
  'a declared patientArgument is no property of its tool’s input schema: correct it in `operations`' satisfies ServerNotice;
const INVALID =
  'the arguments do not satisfy the input schema of the tool: see whether its patientArgument is the right one' satisfies ServerNotice;

/** Why a call of a tool failed before the tool ran, in fixed words. */
export type ToolFault = (typeof AUDIT_REASONS)['invalidArguments' | 'noSuchTool'];

/** Names of tools that are remembered to be written down; a server whose lists never end is not followed further. */
const MOST_NAMES = 4096;
const NAME = /^[A-Za-z0-9_.-]{1,128}$/;

/** What lists have shown of the tools of one deployment; each fault is said once. */
class KnownTools {
  readonly #names = new Set<string>();
  readonly #lacking = new Map<string, boolean>();
  readonly #said = new Set<string>();
  /** The newest list was looked at to its end, or is being looked at. */
  seen = false;

  /** The server itself has shown a tool of that name, declared or not. */
  name(tool: unknown): void {
    if (typeof tool === 'string' && NAME.test(tool) && this.#names.size < MOST_NAMES) this.#names.add(tool);
  }

  isNamed(tool: string): boolean {
    return this.#names.has(tool);
  }

  /** The newest list counts. */
  learn(tool: string, lacks: boolean): void {
    this.#lacking.set(tool, lacks);
  }

  /** `undefined` while nobody looked. */
  lacks(tool: string): boolean | undefined {
    return this.#lacking.get(tool);
  }

  /** The server says that its list is another one now. */
  forget(): void {
    this.#lacking.clear();
    this.seen = false;
  }

  say(env: AgentEnv, tool: string, notice: ServerNotice): void {
    const key = `${notice} ${tool}`;
    if (this.#said.has(key)) return;
    this.#said.add(key);
    env.log?.warn({ method: 'tools/call', tool }, notice);
  }
}

const known = new WeakMap<AgentEnv, KnownTools>();

function knownTools(env: AgentEnv): KnownTools {
  let found = known.get(env);
  if (found === undefined) {
    found = new KnownTools();
    known.set(env, found);
  }
  return found;
}

/** Where the entries of each list stand. */
const LISTS: Readonly<Record<string, string>> = {
  'tools/list': 'tools',
  'prompts/list': 'prompts',
  'resources/list': 'resources',
  'resources/templates/list': 'resourceTemplates',
};

/**
 * A list as a model should see it: without what nobody declared, which could only be refused, and without the arguments that the
 * context fills in. What the list says against the declarations is logged, once each.
 * @see protocol section 3
 */
export function shownList(method: string, params: Json, result: Json, declarations: Declarations, env: AgentEnv): Shown {
  const member = Object.hasOwn(LISTS, method) ? LISTS[method] : undefined;
  const entries = member === undefined ? undefined : result[member];
  if (member === undefined || !Array.isArray(entries)) return { result, leftOut: 0 };
  const declared = entries.filter(isJsonObject).filter((entry) => isDeclared(method, entry, declarations));
  if (method === 'tools/list') {
    for (const { name } of entries.filter(isJsonObject)) knownTools(env).name(name);
    for (const tool of declared) learn(tool, declarations, env);
    const whole = params.cursor === undefined && result.nextCursor === undefined;
    const listed = new Set(declared.map(({ name }) => name));
    if (whole) sayAbsent(listed, declarations, env);
  }
  const shown = declared.map((entry) => withoutPatient(method, entry, declarations));
  return { result: { ...result, [member]: shown }, leftOut: entries.length - declared.length };
}

/** All that the server lists is known: what of the deployment's table is not among it is misspelt, or gone. */
function sayAbsent(listed: ReadonlySet<unknown>, declarations: Declarations, env: AgentEnv): void {
  const tools = knownTools(env);
  tools.seen = true;
  for (const name of declarations.tabledTools()) if (!listed.has(name)) tools.say(env, name, ABSENT);
}

/** Notes a name as the server's own. */
export function noteShown(tool: string, env: AgentEnv): void {
  knownTools(env).name(tool);
}

function isDeclared(method: string, entry: Json, declarations: Declarations): boolean {
  if (method === 'tools/list') return declarations.forRequest('tools/call', entry) !== undefined;
  if (method === 'prompts/list') return declarations.forRequest('prompts/get', entry) !== undefined;
  if (method === 'resources/list') return declarations.forRequest('resources/read', entry) !== undefined;
  return typeof entry.uriTemplate === 'string' && declarations.find('resources', entry.uriTemplate) !== undefined;
}

function learn({ name, inputSchema }: Json, declarations: Declarations, env: AgentEnv): void {
  const argument = declarations.patientArgument('tools', String(name));
  if (argument === undefined) return;
  const lacks = isWithout(inputSchema, argument);
  knownTools(env).learn(String(name), lacks);
  if (lacks) knownTools(env).say(env, String(name), NO_PROPERTY);
}

/** True when a JSON Schema says of an object's properties all there is, and this is none of them. */
function isWithout(schema: unknown, property: string): boolean {
  if (!isJsonObject(schema)) return false;
  const { properties, additionalProperties } = schema;
  if (OPEN.some((keyword) => schema[keyword] !== undefined)) return false;
  if (additionalProperties !== undefined && additionalProperties !== false) return false;
  if (!isJsonObject(properties)) return additionalProperties === false;
  return !Object.hasOwn(properties, property);
}

/** Keywords by which a schema can have properties that are not in its `properties`. */
const OPEN = ['$ref', '$dynamicRef', 'allOf', 'anyOf', 'oneOf', 'if', 'dependentSchemas', 'patternProperties'];

/** A model never sees that an operation has an argument for the patient: the context fills it in. @see protocol section 5 */
function withoutPatient(method: string, entry: Json, declarations: Declarations): Json {
  if (method === 'prompts/list' && Array.isArray(entry.arguments)) {
    const hidden = declarations.patientArgument('prompts', String(entry.name));
    const shown = entry.arguments.filter((one: unknown) => !isJsonObject(one) || one.name !== hidden);
    return hidden === undefined ? entry : { ...entry, arguments: shown };
  }
  if (method !== 'tools/list' || !isJsonObject(entry.inputSchema)) return entry;
  const hidden = declarations.patientArgument('tools', String(entry.name));
  if (hidden === undefined) return entry;
  const { properties, required, ...schema } = entry.inputSchema;
  const { [hidden]: _, ...shown } = isJsonObject(properties) ? properties : {};
  const names = Array.isArray(required) ? required.filter((name) => name !== hidden) : [];
  return { ...entry, inputSchema: { ...schema, properties: shown, ...(names.length > 0 ? { required: names } : {}) } };
}

/** Asks the server for one page of its list of tools; `{}` when it has none to show, `undefined` when no answer came. */
export type AskForTools = (cursor: string | undefined) => Promise<Json | undefined>;

/** Pages that are looked through for one tool. */
const MOST_PAGES = 64;

/**
 * True when the schema of a tool has no argument of the name that the context would be filled into. Before its first call the server
 * itself is asked for its list; of a tool that it does not show, nothing is known, and nothing is said again.
 */
export async function lacksPatientArgument(
  tool: unknown,
  declarations: Declarations,
  env: AgentEnv,
  ask: AskForTools,
): Promise<boolean> {
  if (typeof tool !== 'string' || declarations.patientArgument('tools', tool) === undefined) return false;
  const tools = knownTools(env);
  const isKnown = (): boolean => tools.lacks(tool) !== undefined;
  // Where nothing was learned, whoever calls next asks again.
  if (!isKnown() && (await lookThrough(declarations, env, ask, isKnown)) === 'silent') return false;
  const lacks = tools.lacks(tool) ?? false;
  tools.learn(tool, lacks);
  return lacks;
}

/**
 * After somebody was refused an undeclared tool: looks through the server's list, so that the log names what is misspelt in the
 * deployment's table. Once, until the server says that its list is another one; a list that did not come is asked for by the next.
 */
export async function lookForDeclared(declarations: Declarations, env: AgentEnv, ask: AskForTools): Promise<void> {
  const tools = knownTools(env);
  if (tools.seen || declarations.tabledTools().length === 0) return;
  tools.seen = true;
  if ((await lookThrough(declarations, env, ask).catch(() => 'silent')) === 'silent') tools.seen = false;
}

/**
 * Learns from the server's list, page by page, until it ends or `enough` was learned. At its end it is said what the table has and the list
 * has not.
 * @returns `silent` when a page did not come
 */
async function lookThrough(
  declarations: Declarations,
  env: AgentEnv,
  ask: AskForTools,
  enough: () => boolean = () => false,
): Promise<'looked' | 'silent'> {
  const listed = new Set<unknown>();
  let cursor: string | undefined;
  for (let page = 0; page < MOST_PAGES && !enough(); page += 1) {
    const result = await ask(cursor);
    if (result === undefined) return 'silent';
    shownList('tools/list', cursor === undefined ? {} : { cursor }, result, declarations, env);
    for (const { name } of Array.isArray(result.tools) ? result.tools.filter(isJsonObject) : []) listed.add(name);
    if (typeof result.nextCursor !== 'string') {
      sayAbsent(listed, declarations, env);
      break;
    }
    cursor = result.nextCursor;
  }
  return 'looked';
}

/** True for a name that is the server's own, and not whatever a caller wrote: a list of it showed the tool, declared or not. */
export function hasShown(tool: unknown, env: AgentEnv): tool is string {
  return typeof tool === 'string' && knownTools(env).isNamed(tool);
}

/** What lists have shown counts no more. */
export function forgetTools(env: AgentEnv): void {
  knownTools(env).forget();
}

/** How the SDKs begin what they say when arguments do not fit, and when there is no such tool; SDK v1 puts its code before it. */
const SAID =
  /^(?:MCP error -32602: )?(?:(Input validation error|Invalid arguments for tool)\b|Tool .{1,128} (?:not found|disabled)$)/;

/**
 * Whether the SDK, or a server like it, failed a call before its tool ran, and why; nothing of its text is kept. Logged once a tool.
 * `undefined` when the tool itself answered.
 */
export function toolFault({ result, error }: Message, tool: unknown, env: AgentEnv): ToolFault | undefined {
  const fault = faultIn(result) ?? faultOf(error);
  if (fault !== undefined && typeof tool === 'string')
    knownTools(env).say(env, tool, fault === AUDIT_REASONS.noSuchTool ? ABSENT : INVALID);
  return fault;
}

function faultIn(result: unknown): ToolFault | undefined {
  if (!isJsonObject(result) || result.isError !== true || !Array.isArray(result.content)) return undefined;
  const [first] = result.content as readonly unknown[];
  return isJsonObject(first) && typeof first.text === 'string' ? faultSaid(first.text) : undefined;
}

function faultOf(error: unknown): ToolFault | undefined {
  if (!isJsonObject(error) || error.code !== -32602) return undefined;
  const said = typeof error.message === 'string' ? faultSaid(error.message) : undefined;
  return said ?? AUDIT_REASONS.invalidArguments;
}

function faultSaid(text: string): ToolFault | undefined {
  const found = SAID.exec(text);
  if (found === null) return undefined;
  return found[1] === undefined ? AUDIT_REASONS.noSuchTool : AUDIT_REASONS.invalidArguments;
}
