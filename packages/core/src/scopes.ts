/** Interactions of a FHIR resource scope, in SMART v2 order: create, read, update, delete, search. */
export type Interaction = 'c' | 'r' | 'u' | 'd' | 's';

/**
 * Whose data a scope speaks of. `unprefixed` is HMCP's form without a level (`hmcp:read`, `write.Task`): user level when a
 * human stands behind the token, else system level; it is never patient level.
 * @see protocol section 2.1
 */
export type ScopeLevel = 'patient' | 'user' | 'system' | 'unprefixed';

/** FHIR interactions on a type (`patient/Observation.rs?category=laboratory`), whichever of the three notations it came in. */
export interface ResourceScope {
  readonly kind: 'resource';
  readonly raw: string;
  readonly level: ScopeLevel;
  /** A FHIR type, `*` for every FHIR type, or (HMCP verb-first form only) the name of a tool, which starts lower-case. */
  readonly type: string;
  readonly ops: ReadonlySet<Interaction>;
  /** Search parameters a row must match, all of them; values are percent-decoded once. */
  readonly constraints: ReadonlyMap<string, string>;
}

/** An agent's own tools: `patient/hmcp:read`, `hmcp:write`. Write does not imply read. */
export interface HmcpScope {
  readonly kind: 'hmcp';
  readonly raw: string;
  readonly level: 'patient' | 'unprefixed';
  readonly ops: ReadonlySet<'read' | 'write'>;
}

/**
 * One parsed member of a `scope` string. Only `resource` and `hmcp` grant data; `access` grants operations without a patient,
 * `control` grants manager traffic, `identity` and `launch` grant nothing at a hop, `extension` and `unknown` nothing at all.
 * @see protocol section 2.1
 */
export type Scope =
  | ResourceScope
  | HmcpScope
  | { readonly kind: 'access'; readonly raw: string }
  | { readonly kind: 'control'; readonly raw: string; readonly grant: 'switch' | 'participate' | 'control' }
  | { readonly kind: 'launch'; readonly raw: string }
  | { readonly kind: 'identity'; readonly raw: string }
  | { readonly kind: 'extension'; readonly raw: string }
  | { readonly kind: 'unknown'; readonly raw: string };

/** What {@link satisfies} must know of the token; a {@link VerifiedToken} fits. */
export interface ScopeHolder {
  readonly subject: string;
  readonly clientId: string;
  readonly patient?: string | undefined;
  readonly fhirUser?: string | undefined;
}

const LONGEST_MEMBER = 1024;
/** RFC 6749 section 3.3 `scope-token`. */
const SCOPE_TOKEN = /^[\x21\x23-\x5B\x5D-\x7E]+$/;
const IDENTITY = new Set(['openid', 'fhirUser', 'profile', 'offline_access', 'online_access']);
const LAUNCH = /^launch(?:\/[a-z]+(?:\?role=[A-Za-z][A-Za-z0-9+.-]*:[^?\s]+)?)?$/;
const HMCP = /^(patient\/)?hmcp:(read|write)$/;
const CONTROL = /^hmcp:context\.(switch|participate|control)$/;
/** The first segment decides: exactly `read` or `write` is HMCP's verb-first form, for a FHIR type starts upper-case. */
const VERB_FIRST = /^(patient\/)?(read|write)\.([A-Z][A-Za-z]{0,63}|[a-z][A-Za-z0-9_.-]{0,127})$/;
const TYPE_FIRST = /^(patient|user|system)\/([A-Z][A-Za-z]{0,63}|\*)\.([a-z]+|\*)(?:\?(.*))?$/;
const SMART_V2 = /^(?=.)c?r?u?d?s?$/;
const EXTENSION = /^(?:__[A-Za-z0-9_.-]+|[a-z][a-z0-9+.-]*:\/\/\S+|urn:\S+)$/;
const FHIR_TYPE = /^[A-Z][A-Za-z]*$/;
/**
 * Parameters that can only remove rows. Modifiers (`code:in`), chains (`subject.name`) and control parameters (`_include`)
 * do not match: a constraint that cannot be evaluated makes the scope grant nothing, it is never dropped.
 */
const FILTER = /^(?:[a-z][a-z0-9-]*|_id|_lastUpdated|_tag|_profile|_security|_source)$/;

const READ: ReadonlySet<Interaction> = new Set<Interaction>(['r', 's']);
const WRITE: ReadonlySet<Interaction> = new Set<Interaction>(['c', 'u', 'd']);
const EVERY: ReadonlySet<Interaction> = new Set<Interaction>(['c', 'r', 'u', 'd', 's']);
const NO_CONSTRAINTS: ReadonlyMap<string, string> = new Map();

/**
 * Parses a `scope` string (members separated by spaces): HMCP, SMART v1 and v2, launch, identity. Never throws;
 * what is not understood is kept as `unknown`.
 * @see protocol section 2.1
 */
export function parseScopes(scope: string): Scope[] {
  return scope
    .split(' ')
    .filter((raw) => raw !== '')
    .map(parseScope);
}

function parseScope(raw: string): Scope {
  if (raw.length > LONGEST_MEMBER || !SCOPE_TOKEN.test(raw)) return { kind: 'unknown', raw };
  if (raw === 'hmcp:access') return { kind: 'access', raw };
  if (IDENTITY.has(raw)) return { kind: 'identity', raw };
  if (LAUNCH.test(raw)) return { kind: 'launch', raw };
  return parseHmcp(raw) ?? parseControl(raw) ?? parseVerbFirst(raw) ?? parseTypeFirst(raw) ?? parseRest(raw);
}

function parseHmcp(raw: string): Scope | undefined {
  const match = HMCP.exec(raw);
  if (!match) return undefined;
  const verb = match[2] === 'read' ? 'read' : 'write';
  return { kind: 'hmcp', raw, level: match[1] === undefined ? 'unprefixed' : 'patient', ops: new Set([verb]) };
}

function parseControl(raw: string): Scope | undefined {
  const grant = CONTROL.exec(raw)?.[1];
  return grant === 'switch' || grant === 'participate' || grant === 'control' ? { kind: 'control', raw, grant } : undefined;
}

function parseVerbFirst(raw: string): Scope | undefined {
  const match = VERB_FIRST.exec(raw);
  if (!match) return undefined;
  const [, prefix, verb, type = ''] = match;
  const level = prefix === undefined ? 'unprefixed' : 'patient';
  return { kind: 'resource', raw, level, type, ops: verb === 'read' ? READ : WRITE, constraints: NO_CONSTRAINTS };
}

function parseTypeFirst(raw: string): Scope | undefined {
  const match = TYPE_FIRST.exec(raw);
  if (!match) return undefined;
  const [, level, type = '', operations = '', query] = match;
  if (level !== 'patient' && level !== 'user' && level !== 'system') return undefined;
  const constraints = query === undefined ? NO_CONSTRAINTS : parseConstraints(query);
  const ops = parseInteractions(operations, query !== undefined);
  return constraints && ops ? { kind: 'resource', raw, level, type, ops, constraints } : undefined;
}

function parseInteractions(text: string, constrained: boolean): ReadonlySet<Interaction> | undefined {
  if (SMART_V2.test(text)) return new Set([...EVERY].filter((op) => text.includes(op)));
  if (constrained) return undefined; // SMART v1 knows no constraints
  return { read: READ, write: WRITE, '*': EVERY }[text];
}

function parseConstraints(query: string): ReadonlyMap<string, string> | undefined {
  const constraints = new Map<string, string>();
  for (const pair of query.split('&')) {
    const at = pair.indexOf('=');
    const name = pair.slice(0, Math.max(at, 0));
    const value = decode(pair.slice(at + 1));
    if (!FILTER.test(name) || constraints.has(name) || value === undefined || value === '') return undefined;
    constraints.set(name, value);
  }
  return constraints;
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function parseRest(raw: string): Scope {
  return { kind: EXTENSION.test(raw) ? 'extension' : 'unknown', raw };
}

/**
 * True when `granted` includes everything `required` asks for: same level, type equal or `*`, interactions a subset, and every
 * constraint of `granted` present in `required` with the same value. A meaning, not a string: `patient/Observation.read`
 * covers `patient/read.Observation`. Launch, identity and control members cover themselves; unknown ones cover nothing.
 * @see protocol section 5
 */
export function covers(granted: Scope, required: Scope): boolean {
  if (granted.kind === 'resource' && required.kind === 'resource') {
    return granted.level === required.level && resourceCovers(granted, required);
  }
  if (granted.kind === 'hmcp' && required.kind === 'hmcp') {
    return granted.level === required.level && isSubset(required.ops, granted.ops);
  }
  if (granted.kind === 'unknown' || granted.kind === 'extension') return false;
  return granted.kind === required.kind && granted.raw === required.raw;
}

function resourceCovers(granted: ResourceScope, required: ResourceScope): boolean {
  // `*` means every FHIR type: it never reaches a tool that a verb-first scope names.
  const typed = granted.type === required.type || (granted.type === '*' && FHIR_TYPE.test(required.type));
  if (!typed || !isSubset(required.ops, granted.ops)) return false;
  for (const [name, value] of granted.constraints) if (required.constraints.get(name) !== value) return false;
  return true;
}

function isSubset<T>(part: ReadonlySet<T>, whole: ReadonlySet<T>): boolean {
  for (const member of part) if (!whole.has(member)) return false;
  return true;
}

/**
 * True when every required member is covered. Several granted scopes are a union: `.rs` is covered by `.r` and `.s` together.
 * An unknown required member is never covered. True for an empty `required`.
 * @see protocol section 5
 */
export function coversAll(granted: readonly Scope[], required: readonly Scope[]): boolean {
  return required.every((one) => splitInteractions(one).every((part) => granted.some((scope) => covers(scope, part))));
}

function splitInteractions(scope: Scope): readonly Scope[] {
  if (scope.kind !== 'resource' || scope.ops.size === 1) return [scope];
  return [...scope.ops].map((op) => ({ ...scope, ops: new Set([op]) }));
}

/**
 * The members that grant something at a hop to the holder of this token, each at the level it acts at: unprefixed ones become
 * user level (a human stands behind the token) or system level (none does). `system/` with a human, `user/` without one and
 * `patient/` without a patient grant nothing; nor do launch, identity, extension and unknown members.
 * @see protocol section 2.1
 */
export function effectiveScopes(granted: readonly Scope[], token: ScopeHolder): Scope[] {
  return granted.flatMap((scope): Scope[] => {
    if (scope.kind === 'access' || scope.kind === 'control') return [scope];
    if (scope.kind !== 'resource' && scope.kind !== 'hmcp') return [];
    if (scope.level === 'patient') return token.patient === undefined ? [] : [scope];
    if (scope.level === 'unprefixed') return [scope.kind === 'resource' ? { ...scope, level: actingLevel(token) } : scope];
    return scope.level === actingLevel(token) ? [scope] : [];
  });
}

/** `sub` differs from `client_id`, or a `fhirUser` is named: a human stands behind the token. */
function actingLevel(token: ScopeHolder): 'user' | 'system' {
  return token.subject !== token.clientId || token.fhirUser !== undefined ? 'user' : 'system';
}

/**
 * True when a token may call an operation that demands `required`. As {@link coversAll} over {@link effectiveScopes}, except
 * that a required `patient/` level is also satisfied by the level above it: `user/` or, without a human, `system/`, and
 * unprefixed HMCP scopes at either (the access policy then decides which patient). Nothing satisfies an empty demand, nor one
 * of launch, identity or unknown members.
 * @see protocol sections 2.1 and 3
 */
export function satisfies(granted: readonly Scope[], required: readonly Scope[], token: ScopeHolder): boolean {
  if (required.length === 0) return false;
  const effective = effectiveScopes(granted, token);
  const acting = actingLevel(token);
  return required.every((one) => {
    if (one.kind === 'launch' || one.kind === 'identity') return false;
    if (coversAll(effective, [one])) return true;
    if (one.kind === 'hmcp') return one.level === 'patient' && coversAll(effective, [{ ...one, level: 'unprefixed' }]);
    if (one.kind !== 'resource' || (one.level !== 'patient' && one.level !== 'unprefixed')) return false;
    return coversAll(effective, [{ ...one, level: acting }]);
  });
}

/**
 * True when any member starts with `patient/`, even one that does not parse: such a token is worthless without a valid
 * `patient` claim (401 before routing).
 * @see protocol section 2.1
 */
export function hasPatientLevel(scopes: readonly Scope[]): boolean {
  return scopes.some((scope) => scope.raw.startsWith('patient/'));
}

/**
 * True when the members can change something: c, u, d or write. A member that cannot be read counts as one that can.
 * @see protocol section 6
 */
export function canChange(scopes: readonly Scope[]): boolean {
  return scopes.some((scope) => {
    if (scope.kind === 'resource') return !isSubset(scope.ops, READ);
    return scope.kind === 'hmcp' ? scope.ops.has('write') : scope.kind === 'unknown' || scope.kind === 'extension';
  });
}
