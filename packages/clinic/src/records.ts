import { FhirId } from '@hmcp/core';
import { IdentifierIndex, rewriteReferences } from './bundle-references.js';
import { DIRECTORY_TYPES, isObject, type Resource } from './fhir-resource.js';

/** A Bundle with the name it is reported under when it cannot be used: a file name, never content. */
export interface NamedBundle {
  readonly name: string;
  readonly bundle: unknown;
}

/**
 * Why records could not be loaded.
 * - `folder`: the folder cannot be read · `empty`: no Bundle in it · `too_large`: no file is small enough to load
 * - `not_json`, `not_a_bundle`, `bad_entry`: a file is not what it should be
 * - `conflict`: two entries hold different resources under one type and id
 */
export type RecordsErrorCode = 'folder' | 'empty' | 'too_large' | 'not_json' | 'not_a_bundle' | 'bad_entry' | 'conflict';

/** Records that cannot be used. Message and `files` name files and entry positions only, nothing a file holds. */
export class RecordsError extends Error {
  readonly code: RecordsErrorCode;
  readonly files: readonly string[];

  constructor(code: RecordsErrorCode, message: string, files: readonly string[] = []) {
    super(message);
    this.name = 'RecordsError';
    this.code = code;
    this.files = files;
  }
}

/** Where records came from and what was left out. */
export interface RecordsSource {
  readonly kind: 'folder' | 'shipped';
  /** Bundles of the folder (or shipped) that were read. */
  readonly files: number;
  /** Bundles of the folder left unread because the size limit was reached. */
  readonly unread: number;
  /** References whose target is in none of the Bundles; left as they stood. */
  readonly unresolved: number;
}

/** The clinic's records in memory, by type and by patient. */
export interface Records {
  readonly source: RecordsSource;
  /** Every type present, sorted. */
  readonly types: readonly string[];
  read(type: string, id: string): Resource | undefined;
  ofType(type: string): readonly Resource[];
  /** Resources whose subject is this patient, the Patient itself included; in the order of the Bundle. */
  ofPatient(patient: string, type?: string): readonly Resource[];
  /**
   * The one patient a resource is about: its subject, when no other patient is referred to anywhere inside;
   * `undefined` for directory types and for anything unclear, which is in nobody's chart.
   */
  patientOf(resource: Pick<Resource, 'resourceType' | 'id'>): string | undefined;
  /** True for a directory resource that refers to no patient. */
  isShared(resource: Pick<Resource, 'resourceType' | 'id'>): boolean;
}

/** Elements that name whose resource it is. @see protocol section 7 */
const SUBJECT_ELEMENTS = ['subject', 'patient', 'beneficiary', 'for', 'individual', 'candidate', 'deliverTo'] as const;
const BUNDLE_TYPES: ReadonlySet<unknown> = new Set(['transaction', 'batch', 'collection', 'searchset']);
const TYPE_NAME = /^[A-Z][A-Za-z]{1,63}$/;

interface Loaded {
  readonly resource: Resource;
  readonly name: string;
  /** `fullUrl` → `Type/id` of the Bundle it came in. */
  readonly urls: ReadonlyMap<string, string>;
}

/**
 * Builds {@link Records} from Bundles (transaction, batch, collection or searchset), which it takes over and changes:
 * `urn:uuid:`, absolute and conditional references to resources of any of the Bundles become `Type/id`.
 * A directory resource met again is kept once; any other one met again must be equal.
 * @throws {RecordsError} `not_a_bundle`, `bad_entry`, `conflict`, `empty`
 */
export function buildRecords(
  bundles: Iterable<NamedBundle>,
  source: { readonly kind: RecordsSource['kind']; readonly unread?: number },
): Records {
  const loaded = new Map<string, Loaded>();
  const everyUrl = new Map<string, string>();
  const identifiers = new IdentifierIndex();
  let files = 0;
  for (const { name, bundle } of bundles) {
    files += 1;
    readBundle(name, bundle, loaded, everyUrl);
  }
  if (loaded.size === 0) throw new RecordsError('empty', 'The records hold no resource.');
  for (const { resource } of loaded.values()) identifiers.add(resource);

  let unresolved = 0;
  const owners = new Map<string, string>();
  const shared = new Set<string>();
  const byType = new Map<string, Resource[]>();
  const byPatient = new Map<string, Resource[]>();
  for (const [key, { resource, urls }] of loaded) {
    const references = rewriteReferences(resource, (text) => urls.get(text) ?? everyUrl.get(text), identifiers);
    unresolved += references.unresolved;
    append(byType, resource.resourceType, resource);
    const owner = ownerOf(resource, references.patients);
    if (owner !== undefined) {
      owners.set(key, owner);
      append(byPatient, owner, resource);
    } else if (DIRECTORY_TYPES.has(resource.resourceType) && references.patients.size === 0) shared.add(key);
  }

  return {
    source: { kind: source.kind, files, unread: source.unread ?? 0, unresolved },
    types: [...byType.keys()].sort(),
    read: (type, id) => loaded.get(`${type}/${id}`)?.resource,
    ofType: (type) => byType.get(type) ?? [],
    ofPatient: (patient, type) => {
      const own = byPatient.get(patient) ?? [];
      return type === undefined ? own : own.filter((resource) => resource.resourceType === type);
    },
    patientOf: ({ resourceType, id }) => owners.get(`${resourceType}/${id}`),
    isShared: ({ resourceType, id }) => shared.has(`${resourceType}/${id}`),
  };
}

function readBundle(name: string, bundle: unknown, loaded: Map<string, Loaded>, everyUrl: Map<string, string>): void {
  if (!isObject(bundle) || bundle.resourceType !== 'Bundle' || !BUNDLE_TYPES.has(bundle.type))
    throw new RecordsError('not_a_bundle', `${name} is not a FHIR R4 Bundle of type transaction, batch or collection.`, [name]);
  const entries = bundle.entry ?? [];
  if (!Array.isArray(entries)) throw new RecordsError('not_a_bundle', `${name}: "entry" is not a list.`, [name]);
  const urls = new Map<string, string>();
  for (const [index, entry] of entries.entries()) {
    const bad = (what: string) => new RecordsError('bad_entry', `${name}: entry ${index + 1} ${what}.`, [name]);
    if (!isObject(entry)) throw bad('is not an object');
    const { fullUrl, resource } = entry;
    if (resource === undefined) continue;
    if (!isObject(resource) || typeof resource.resourceType !== 'string' || !TYPE_NAME.test(resource.resourceType))
      throw bad('holds no FHIR resource');
    if (fullUrl !== undefined && typeof fullUrl !== 'string') throw bad('has a "fullUrl" that is not text');
    resource.id ??= idFromUrl(fullUrl);
    if (!FhirId.safeParse(resource.id).success) throw bad('has no usable id');
    const kept = resource as Resource;
    const key = `${kept.resourceType}/${kept.id}`;
    if (fullUrl !== undefined) {
      if (urls.has(fullUrl) && urls.get(fullUrl) !== key) throw bad('repeats the "fullUrl" of another entry');
      urls.set(fullUrl, key);
      if (!everyUrl.has(fullUrl)) everyUrl.set(fullUrl, key);
    }
    const before = loaded.get(key);
    if (before === undefined) loaded.set(key, { resource: kept, name, urls });
    else if (!DIRECTORY_TYPES.has(kept.resourceType) && JSON.stringify(before.resource) !== JSON.stringify(kept))
      throw new RecordsError(
        'conflict',
        `${name}: entry ${index + 1} differs from a resource of the same type and id in ${before.name}.`,
        [before.name, name],
      );
  }
}

/** The id a transaction leaves out: the UUID of a `urn:uuid:`, or the end of an absolute URL. */
function idFromUrl(fullUrl: unknown): string | undefined {
  if (typeof fullUrl !== 'string') return undefined;
  return fullUrl.startsWith('urn:uuid:') ? fullUrl.slice('urn:uuid:'.length) : /\/([A-Za-z0-9\-.]{1,64})$/.exec(fullUrl)?.[1];
}

function ownerOf(resource: Resource, patients: ReadonlySet<string>): string | undefined {
  if (resource.resourceType === 'Patient')
    return patients.size === 0 || soleMember(patients) === resource.id ? resource.id : undefined;
  if (DIRECTORY_TYPES.has(resource.resourceType)) return undefined;
  if (resource.resourceType === 'Provenance') return soleMember(patients);
  for (const element of SUBJECT_ELEMENTS) {
    const subject = resource[element];
    if (!isObject(subject) || typeof subject.reference !== 'string') continue;
    const id = /^Patient\/([A-Za-z0-9\-.]{1,64})$/.exec(subject.reference)?.[1];
    return id !== undefined && soleMember(patients) === id ? id : undefined;
  }
  return undefined;
}

function soleMember(set: ReadonlySet<string>): string | undefined {
  const [first, ...others] = set;
  return others.length === 0 ? first : undefined;
}

function append(index: Map<string, Resource[]>, key: string, resource: Resource): void {
  const list = index.get(key);
  if (list === undefined) index.set(key, [resource]);
  else list.push(resource);
}
