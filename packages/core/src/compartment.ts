import { mentionedPatient } from './mentions.js';
import { otherPatientNamedIn } from './named-patient.js';
import type { PatientIdentity } from './patient-context.js';
import { judgedMember, otherIdUnder, saysPatient } from './patient-keys.js';
import { isReference, looksLikeFhir, telling } from './reference-shape.js';
import {
  baseOf,
  isObject,
  isUnder,
  knownBase,
  type OwnPatient,
  type ReferencePlace,
  type Resolution,
  resolveContainedPatient,
  resolvePatient,
  resolveReferenceObject,
} from './references.js';
import { RESOURCE_RULES, type ResourceRule } from './resource-rules.js';
import { parseStrictJson } from './strict-json.js';

/**
 * What the compartment check needs to know: the patient, and the base URL the examined resources came from
 * (relative references are foreign when it is unknown).
 */
export interface CompartmentOptions {
  readonly patient: PatientIdentity;
  /** Base URL of the source of these resources; usually `patient.fhirServer`. */
  readonly sourceBase?: string | undefined;
  /** `system|value` of identifiers known to be the patient's, for logical references and contained Patients. @default [] */
  readonly identifiers?: readonly string[] | undefined;
  /** The value satisfied its contract's `output`: JSON around FHIR resources then counts as checked. @default false */
  readonly declared?: boolean | undefined;
  /** Name of the operation's argument for the patient: JSON outside FHIR may say by it whose it is. @default none */
  readonly patientArgument?: string | null | undefined;
}

/** Why a value is withheld; fixed words for the local audit, never sent. */
export type CompartmentFault =
  | 'another patient'
  | 'another id under a name of the patient'
  | 'reference of unknown target'
  | 'no subject'
  | 'unknown resource type'
  | 'malformed resource'
  | 'patient in a directory resource'
  | 'text in an OperationOutcome'
  | 'duplicate fullUrl'
  | 'duplicate key'
  | 'FHIR in free text'
  | 'not JSON'
  | 'too deep'
  | 'too large';

/**
 * Verdict on a value: FHIR types with their counts and the number of parts that cannot be checked (free text, attachments,
 * undeclared JSON), or the fixed reason it must be withheld.
 * @see protocol section 7
 */
export type CompartmentVerdict =
  | {
      readonly inside: true;
      readonly types: Readonly<Record<string, number>>;
      readonly resources: number;
      readonly unverifiable: number;
    }
  | {
      readonly inside: false;
      readonly reason: CompartmentFault;
      /** Whose it is, where a plain id or reference says so. For a keyed hash in the local audit only; never sent or written. */
      readonly named?: PatientIdentity;
    };

/** Deepest nesting of JSON that is looked into. */
const MAX_DEPTH = 40;
const MAX_BUNDLES = 2;
const MAX_NODES = 2_000_000;
const SHORTEST_MENTION = 'Patient/'.length;
/** The shortest text that is more than a value; every way to mention somebody is longer. */
const SHORTEST_LOOK = '?_has='.length;
/** Strings without any of these can name nobody: most strings are done after one test. */
const WORTH_A_LOOK = /[?%]|[Pp]atient|resourceType|xmlns=|^\s*[{[]/;
const FHIR_IN_TEXT = /\bresourceType\\*["']?\s*:|xmlns=\\*["']http:\/\/hl7\.org\/fhir\\*["']/;

/** Where the walk stands. */
interface Place extends ReferencePlace {
  /** Rule of the resource around; undefined in JSON outside any. */
  readonly rule: ResourceRule | undefined;
  readonly bundles: number;
  readonly inContained: boolean;
}

type Json = Readonly<Record<string, unknown>>;

class Withheld extends Error {
  readonly fault: CompartmentFault;
  readonly named: PatientIdentity | undefined;
  constructor(fault: CompartmentFault, named?: PatientIdentity) {
    super(fault);
    this.fault = fault;
    this.named = named;
  }
}

/**
 * Walks any JSON once: every FHIR resource in it (an object with `resourceType`, wherever it stands, also inside a string of
 * JSON) must be the context patient's own, and nothing may refer to another patient; in JSON outside FHIR, an id under a
 * patient's name (`patientId`, `subject`, …) must be the patient's too. Unknown types, references that cannot
 * be resolved and nesting beyond 40 are withheld.
 * @see protocol section 7
 */
export function checkCompartment(value: unknown, options: CompartmentOptions): CompartmentVerdict {
  const walk = new Walk(options);
  return walk.judge(() => walk.visit(value, 0, walk.top));
}

/**
 * The same for text that crosses the boundary: JSON is parsed (a duplicate key is withheld) and checked as a value; any other
 * text is one unverifiable part, withheld when it names another patient or holds FHIR that cannot be parsed.
 * @see protocol section 7
 */
export function checkText(text: string, options: CompartmentOptions): CompartmentVerdict {
  const parsed = parseStrictJson(text);
  if (parsed.ok) return checkCompartment(parsed.value, options);
  if (parsed.reason === 'duplicate key') return { inside: false, reason: parsed.reason };
  return checkCompartment(text, { ...options, declared: false });
}

/**
 * One verdict of several parts of an answer: the first reason to withhold any of them, else their sums.
 * @see protocol section 7
 */
export function combineVerdicts(verdicts: readonly CompartmentVerdict[]): CompartmentVerdict {
  const types: Record<string, number> = {};
  let [resources, unverifiable] = [0, 0];
  for (const verdict of verdicts) {
    if (!verdict.inside) return verdict;
    for (const [type, count] of Object.entries(verdict.types)) types[type] = (types[type] ?? 0) + count;
    resources += verdict.resources;
    unverifiable += verdict.unverifiable;
  }
  return { inside: true, types, resources, unverifiable };
}

class Walk {
  readonly top: Place;
  readonly #own: OwnPatient;
  readonly #patient: PatientIdentity;
  readonly #declared: boolean;
  readonly #argument: string | undefined;
  readonly #types = new Map<string, number>();
  #resources = 0;
  #attachments = 0;
  #loose = false;
  #nodes = 0;

  constructor({ patient, sourceBase, identifiers, declared, patientArgument }: CompartmentOptions) {
    const base = knownBase(patient.fhirServer);
    this.#own = { base, id: patient.patient, identifiers: new Set(identifiers) };
    this.#patient = patient;
    this.#declared = declared === true;
    this.#argument = judgedMember(patientArgument);
    this.top = {
      own: this.#own,
      base: sourceBase === patient.fhirServer ? base : knownBase(sourceBase),
      contained: undefined,
      entries: undefined,
      rule: undefined,
      bundles: 0,
      inContained: false,
    };
  }

  judge(walk: () => void): CompartmentVerdict {
    try {
      walk();
    } catch (error) {
      if (error instanceof Withheld)
        return { inside: false, reason: error.fault, ...(error.named === undefined ? {} : { named: error.named }) };
      throw error;
    }
    const unverifiable = this.#attachments + (this.#loose && !this.#declared ? 1 : 0);
    return { inside: true, types: Object.fromEntries(this.#types), resources: this.#resources, unverifiable };
  }

  visit(value: unknown, depth: number, place: Place): void {
    if (value === null || value === undefined) return;
    if (depth > MAX_DEPTH) throw new Withheld('too deep');
    this.#nodes += 1;
    if (this.#nodes > MAX_NODES) throw new Withheld('too large');
    if (typeof value === 'object') {
      if (Array.isArray(value)) this.#visitList(value, depth, place);
      else this.#visitObject(value as Json, depth, place);
      return;
    }
    if (place.rule === undefined) this.#loose = true;
    if (typeof value === 'string') this.#visitString(value, depth, place);
    else if (typeof value !== 'number' && typeof value !== 'boolean') throw new Withheld('not JSON');
  }

  #visitList(list: readonly unknown[], depth: number, place: Place): void {
    if ('toJSON' in list) throw new Withheld('not JSON');
    for (const item of list) this.visit(item, depth + 1, place);
  }

  #visitObject(object: Json, depth: number, place: Place): void {
    if (typeof object.toJSON === 'function' || isBoxed(object)) throw new Withheld('not JSON');
    const keys = Object.keys(object);
    const told = telling(keys);
    if (told === 'resource') this.#visitResource(object, depth, place);
    else {
      const resolved = told === 'reference' && this.#checkReference(object, place);
      if (typeof object.data === 'string' && !Object.hasOwn(object, 'origin') && place.rule) this.#attachments += 1;
      this.#visitMembers(object, keys, depth, place, resolved ? 'reference' : undefined);
    }
  }

  /** Keys are looked at too: `{ "Patient/B7": … }` names somebody as well. */
  #visitMembers(object: Json, keys: readonly string[], depth: number, place: Place, done?: string): void {
    for (const key of keys) {
      if (place.rule === undefined && (key === this.#argument || saysPatient(key))) this.#checkNamed(key, object[key]);
      if (key.length > SHORTEST_MENTION && /[/%?{[]/.test(key)) this.#visitString(key, depth, place);
      if (key !== done) this.visit(object[key], depth + 1, place);
    }
  }

  /** JSON that is no FHIR says whose it is by the names of its members, as arguments do. */
  #checkNamed(key: string, value: unknown): void {
    const other = otherIdUnder(key, value, this.#own.id);
    if (other !== undefined) throw new Withheld('another id under a name of the patient', { ...this.#patient, patient: other });
  }

  #visitResource(resource: Json, depth: number, place: Place): void {
    const type = resource.resourceType;
    if (typeof type !== 'string') throw new Withheld('malformed resource');
    const rule = RESOURCE_RULES.get(type);
    if (!rule) throw new Withheld('unknown resource type');
    this.#types.set(type, (this.#types.get(type) ?? 0) + 1);
    this.#resources += 1;
    const inside = this.#enter(resource, rule, place);
    if (rule.is === 'bundle') this.#visitBundle(resource, depth, inside);
    else {
      this.#checkAnchor(resource, rule, inside);
      this.#visitMembers(resource, Object.keys(resource), depth, inside);
    }
  }

  /** The place inside a resource: its own `contained`, one level deep. */
  #enter(resource: Json, rule: ResourceRule, place: Place): Place {
    const inContained = place.rule !== undefined && place.rule.is !== 'bundle';
    if (!Object.hasOwn(resource, 'contained')) return { ...place, rule, inContained };
    if (inContained || !Array.isArray(resource.contained)) throw new Withheld('malformed resource');
    const contained = new Map<string, unknown>();
    for (const item of resource.contained) {
      if (!isObject(item) || typeof item.resourceType !== 'string') throw new Withheld('malformed resource');
      if (typeof item.id !== 'string' || contained.has(item.id)) throw new Withheld('malformed resource');
      contained.set(item.id, item);
    }
    return { ...place, rule, inContained, contained };
  }

  #checkAnchor(resource: Json, rule: ResourceRule, place: Place): void {
    if (rule.is === 'patient') {
      if (place.inContained) this.#require(resolveContainedPatient(resource, this.#own), 'another patient', place);
      else if (typeof resource.id !== 'string') throw new Withheld('no subject');
      else this.#require(resolvePatient(place.base, resource.id, this.#own), 'another patient', place, `Patient/${resource.id}`);
    } else if (rule.is === 'subject') {
      const anchor = Object.hasOwn(resource, rule.anchor) ? resource[rule.anchor] : undefined;
      if (!isObject(anchor) || !isReference(anchor)) throw new Withheld('no subject');
      this.#require(resolveReferenceObject(anchor, place), 'no subject', place, anchor.reference);
    } else if (rule.is === 'outcome' && hasOwnText(resource)) throw new Withheld('text in an OperationOutcome');
  }

  /** An anchor must be the patient's own; `fault` names the case that it is somebody's of no patient kind. */
  #require(resolution: Resolution, fault: CompartmentFault, place: Place, said?: unknown): void {
    if (resolution === 'own') return;
    if (resolution === 'foreign') throw this.#foreign(place, said);
    throw new Withheld(resolution === 'unknown' ? 'reference of unknown target' : fault);
  }

  #foreign(place: Place, said: unknown): Withheld {
    return new Withheld('another patient', otherPatientNamedIn(said, place.base, this.#patient));
  }

  #visitBundle(bundle: Json, depth: number, place: Place): void {
    if (place.bundles === MAX_BUNDLES || place.inContained) throw new Withheld('malformed resource');
    const entries = new Map<string, unknown>();
    const list = Object.hasOwn(bundle, 'entry') ? bundle.entry : [];
    if (!Array.isArray(list)) throw new Withheld('malformed resource');
    for (const entry of list) {
      if (!isObject(entry)) throw new Withheld('malformed resource');
      if (entry.fullUrl === undefined) continue;
      if (typeof entry.fullUrl !== 'string') throw new Withheld('malformed resource');
      if (entries.has(entry.fullUrl)) throw new Withheld('duplicate fullUrl');
      entries.set(entry.fullUrl, entry.resource);
    }
    const inside: Place = { ...place, entries, contained: undefined, bundles: place.bundles + 1 };
    this.#visitMembers(bundle, Object.keys(bundle), depth, inside, 'entry');
    for (const entry of list as readonly Json[]) this.#visitEntry(entry, depth + 2, inside);
  }

  /** Relative references of an entry start from the base of its fullUrl, which may be another server's. */
  #visitEntry(entry: Json, depth: number, place: Place): void {
    const { fullUrl } = entry;
    const remote = typeof fullUrl === 'string' && !fullUrl.startsWith('urn:') && !isUnder(fullUrl, place.base);
    this.visit(entry, depth, remote ? { ...place, base: baseOf(fullUrl) } : place);
  }

  /** True when its `reference` was resolved, so that the string need not be looked at again. */
  #checkReference(object: Json, place: Place): boolean {
    if (!isReference(object)) return false;
    if (place.rule === undefined && !looksLikeFhir(object)) return false; // JSON outside FHIR may call anything a reference
    this.#admit(resolveReferenceObject(object, place), place, object.reference);
    return typeof object.reference === 'string' && !object.reference.includes('?');
  }

  #admit(resolution: Resolution, place: Place, said: unknown): void {
    if (resolution === 'other') return;
    if (resolution === 'foreign') throw this.#foreign(place, said);
    if (resolution === 'unknown') throw new Withheld('reference of unknown target');
    if (place.rule?.is === 'directory' || place.rule?.is === 'outcome') throw new Withheld('patient in a directory resource');
  }

  #visitString(text: string, depth: number, place: Place): void {
    if (text.length < SHORTEST_LOOK || !WORTH_A_LOOK.test(text)) return;
    const parsed = /^\s*[{[]/.test(text) ? parseStrictJson(text) : undefined;
    if (parsed?.ok) this.visit(parsed.value, depth + 1, place);
    else if (parsed?.reason === 'duplicate key') throw new Withheld('duplicate key');
    else if (FHIR_IN_TEXT.test(text)) throw new Withheld('FHIR in free text');
    else this.#admit(mentionedPatient(text, place), place, text);
  }
}

/** What JSON.stringify writes as the text or number inside, which nothing here would look at. */
function isBoxed(object: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(object);
  if (prototype === Object.prototype || prototype === null) return false;
  return object instanceof String || object instanceof Number || object instanceof Boolean || object instanceof BigInt;
}

function hasOwnText(outcome: Json): boolean {
  if (outcome.text !== undefined) return true;
  const issues = Array.isArray(outcome.issue) ? outcome.issue : [];
  return issues.some((issue: unknown) => {
    if (!isObject(issue)) return true;
    return issue.diagnostics !== undefined || (isObject(issue.details) && issue.details.text !== undefined);
  });
}
