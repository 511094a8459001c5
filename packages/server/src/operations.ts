import type { Operation, OperationTable } from '@hmcp/core';
import { UriTemplate } from '@modelcontextprotocol/server';
import { isJsonObject, type Json } from './message.js';

const KINDS = ['tools', 'resources', 'prompts', 'methods'] as const;
/** Where an operation is declared. */
export type OperationKind = (typeof KINDS)[number];

/** A declaration, and what a resource URI fills its template's variables with. */
export interface Declared {
  readonly operation: Operation;
  readonly variables?: Json | undefined;
}

interface Template {
  readonly template: UriTemplate;
  readonly operation: Operation;
}

/** The operations declared for one server: by `patientTool`, and by the deployment's table. */
export class Declarations {
  readonly #table: OperationTable;
  readonly #templates: readonly Template[];
  readonly #live: Declarations | undefined;
  readonly #tools = new Map<string, Operation>();

  /**
   * @param live what a server instance declares, now and later; looked at before the table
   * @throws {TypeError} when a resource of the table is no usable URI template
   */
  constructor(table: OperationTable = {}, live?: Declarations) {
    this.#table = table;
    this.#templates = templatesOf(table);
    this.#live = live;
  }

  /** Adds the declaration of a tool; the last one for a name counts. */
  declareTool(name: string, operation: Operation): void {
    this.#tools.set(name, operation);
  }

  /** Adds the tools `other` declares by now. */
  include(other: Declarations): void {
    for (const [name, operation] of other.#tools) this.#tools.set(name, operation);
  }

  /** The declaration of a name, template or URI, or `undefined`: then the operation answers 40303. */
  find(kind: OperationKind, name: string): Declared | undefined {
    const tool = kind === 'tools' ? this.#tool(name) : undefined;
    if (tool) return { operation: tool };
    const entries = this.#table[kind] ?? {};
    const exact = Object.hasOwn(entries, name) ? entries[name] : undefined;
    if (exact) return { operation: exact };
    return kind === 'resources' ? this.#byTemplate(name) : undefined;
  }

  #tool(name: string): Operation | undefined {
    const live = this.#live === undefined ? undefined : this.#live.#tools.get(name);
    return live ?? this.#tools.get(name);
  }

  /** A URI that several templates match is nobody's: the SDK may serve it by the laxer one. */
  #byTemplate(uri: string): Declared | undefined {
    const matches = this.#templates.flatMap(({ template, operation }) => {
      const variables = matched(template, uri);
      return variables === undefined ? [] : [{ operation, variables }];
    });
    return matches.length === 1 ? matches[0] : undefined;
  }

  /**
   * The declaration that covers a request. `completion/complete` takes that of what it completes;
   * `resources/list` needs none (any granted read scope).
   * @see protocol section 3
   */
  forRequest(method: string, params: Json): Declared | undefined {
    switch (method) {
      case 'tools/call':
        return this.find('tools', text(params.name));
      case 'prompts/get':
        return this.find('prompts', text(params.name));
      case 'resources/read':
      case 'resources/subscribe':
      case 'resources/unsubscribe':
        return this.#resource(text(params.uri));
      case 'completion/complete': {
        const ref = isJsonObject(params.ref) ? params.ref : {};
        return ref.type === 'ref/prompt' ? this.find('prompts', text(ref.name)) : this.find('resources', text(ref.uri));
      }
      default:
        return this.find('methods', method);
    }
  }

  /** The SDK routes by the normalised URI (`a/../b` is `b`), so it is declared by that too. */
  #resource(uri: string): Declared | undefined {
    return URL.canParse(uri) ? this.find('resources', new URL(uri).href) : undefined;
  }

  /** Every declared operation. */
  all(): Operation[] {
    const table = KINDS.flatMap((kind) => Object.values(this.#table[kind] ?? {}));
    return [...this.#tools.values(), ...table, ...(this.#live?.all() ?? [])];
  }

  /** Names of the tools that the deployment's table declares, whoever registers them. */
  tabledTools(): readonly string[] {
    return Object.keys(this.#table.tools ?? {});
  }

  /** Which argument of a tool or prompt names the patient and is hidden from the list. */
  patientArgument(kind: 'tools' | 'prompts', name: string): string | undefined {
    return this.find(kind, name)?.operation.patientArgument ?? undefined;
  }
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function matched(template: UriTemplate, uri: string): Json | undefined {
  try {
    return template.match(uri) ?? undefined;
  } catch {
    return undefined; // longer than any honest URI
  }
}

const compiled = new WeakMap<OperationTable, readonly Template[]>();

/** Compiled once a table: a deployment has one, and a server instance is made for every request. */
function templatesOf(table: OperationTable): readonly Template[] {
  const known = compiled.get(table);
  if (known) return known;
  const templates = Object.entries(table.resources ?? {})
    .filter(([uri]) => uri.includes('{'))
    .map(([uri, operation]) => ({ template: compile(uri), operation }));
  compiled.set(table, templates);
  return templates;
}

function compile(uri: string): UriTemplate {
  try {
    return new UriTemplate(uri);
  } catch {
    throw new TypeError('"operations.resources" holds a key that is no URI template');
  }
}

const declared = new WeakMap<object, Declarations>();

/** The declarations attached to one server instance. */
export function declarationsOf(server: object): Declarations {
  let found = declared.get(server);
  if (!found) {
    found = new Declarations();
    declared.set(server, found);
  }
  return found;
}
