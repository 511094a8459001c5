import type { Operation, OperationTable } from '@hmcp/core';
import { UriTemplate } from '@modelcontextprotocol/server';

const KINDS = ['tools', 'resources', 'prompts', 'methods'] as const;

/** The operations declared for one server: by `patientTool` and friends, and by the deployment's table. */
export class Declarations {
  readonly #table: OperationTable;
  readonly #tools = new Map<string, Operation>();

  constructor(table: OperationTable = {}) {
    this.#table = table;
  }

  /** Adds the declaration of a tool; the last one for a name counts. */
  declareTool(name: string, operation: Operation): void {
    this.#tools.set(name, operation);
  }

  /** Adds the tools another source declares. */
  include(other: Declarations): void {
    for (const [name, operation] of other.#tools) this.#tools.set(name, operation);
  }

  /** The declaration of a name or URI, or `undefined`: then the operation answers 40303. */
  find(kind: (typeof KINDS)[number], name: string): Operation | undefined {
    if (kind === 'tools') {
      const declared = this.#tools.get(name);
      if (declared) return declared;
    }
    const entries = this.#table[kind] ?? {};
    if (Object.hasOwn(entries, name)) return entries[name];
    if (kind !== 'resources') return undefined;
    return Object.entries(entries).find(([uri]) => uri.includes('{') && new UriTemplate(uri).match(name) !== null)?.[1];
  }

  /**
   * The declaration that covers a request. `completion/complete` takes that of what it completes;
   * `resources/list` needs none (any granted read scope).
   * @see protocol section 3
   */
  forRequest(method: string, params: Readonly<Record<string, unknown>>): Operation | undefined {
    const text = (value: unknown): string => (typeof value === 'string' ? value : '');
    switch (method) {
      case 'tools/call':
        return this.find('tools', text(params.name));
      case 'prompts/get':
        return this.find('prompts', text(params.name));
      case 'resources/read':
      case 'resources/subscribe':
      case 'resources/unsubscribe':
        return this.find('resources', text(params.uri));
      case 'completion/complete': {
        const ref = (params.ref ?? {}) as Record<string, unknown>;
        return ref.type === 'ref/prompt' ? this.find('prompts', text(ref.name)) : this.find('resources', text(ref.uri));
      }
      default:
        return this.find('methods', method);
    }
  }

  /** Every declared operation. */
  all(): Operation[] {
    return [...this.#tools.values(), ...KINDS.flatMap((kind) => Object.values(this.#table[kind] ?? {}))];
  }

  /** Name of the argument of a tool names the patient and is hidden from the listed schema. */
  patientArgument(tool: string): string | undefined {
    return this.find('tools', tool)?.patientArgument;
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
