import { DIRECTORY_TYPES, isObject, type Resource } from './fhir-resource.js';

/** Resources by `Type?identifier=system|value`; an identifier two resources share names neither. */
export class IdentifierIndex {
  readonly #references = new Map<string, string | undefined>();

  add({ resourceType, id, identifier }: Resource): void {
    if (!Array.isArray(identifier)) return;
    for (const one of identifier) {
      if (!isObject(one) || typeof one.value !== 'string') continue;
      const key = `${resourceType}?identifier=${typeof one.system === 'string' ? one.system : ''}|${one.value}`;
      const reference = `${resourceType}/${id}`;
      this.#references.set(key, this.#references.has(key) && this.#references.get(key) !== reference ? undefined : reference);
    }
  }

  /** `Type/id` of a conditional reference. */
  find(conditional: string): string | undefined {
    return this.#references.get(decoded(conditional));
  }
}

/** What the references of a resource point at, after rewriting. */
export interface ReferencesSeen {
  /** Ids of patients, and every target that cannot be resolved: it may be another patient, and is taken for one. */
  readonly patients: ReadonlySet<string>;
  readonly unresolved: number;
}

/**
 * Rewrites every `reference` inside a resource, in place: what `byUrl` or `identifiers` knows becomes `Type/id`. A conditional
 * reference to staff that is in no Bundle becomes FHIR's logical reference (identifier only).
 */
export function rewriteReferences(
  resource: Resource,
  byUrl: (url: string) => string | undefined,
  identifiers: IdentifierIndex,
): ReferencesSeen {
  const patients = new Set<string>();
  let unresolved = 0;
  const queue: object[] = [resource];
  for (let node = queue.pop(); node !== undefined; node = queue.pop()) {
    for (const inner of Object.values(node)) if (typeof inner === 'object' && inner !== null) queue.push(inner);
    if (!isObject(node)) continue;
    // A contained Patient is somebody without an id of this server.
    if (node.resourceType === 'Patient' && node !== resource) patients.add('#contained');
    if (typeof node.reference !== 'string' || node.reference.startsWith('#')) continue;
    const before = node.reference;
    const [, type = '', query] = /^([A-Z][A-Za-z]*)\?identifier=(.+)$/.exec(before) ?? [];
    const identified = query === undefined ? undefined : identifiers.find(before);
    const target = byUrl(before) ?? identified ?? before;
    if (query !== undefined && target === before && DIRECTORY_TYPES.has(type)) {
      const [system, value] = decoded(query).split('|', 2);
      delete node.reference;
      node.type = type;
      node.identifier = value === undefined ? { value: system } : { system, value };
      unresolved += 1;
      continue;
    }
    node.reference = target;
    const relative = /^([A-Z][A-Za-z]*)\/([A-Za-z0-9\-.]{1,64})$/.exec(target);
    if (relative === null) unresolved += 1;
    if (relative === null) patients.add(target);
    else if (relative[1] === 'Patient') patients.add(relative[2] ?? '');
  }
  return { patients, unresolved };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
