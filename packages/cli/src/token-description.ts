import { plainText } from '@hmcp/audit';
import { AccessTokenClaims, checkChain, hasPatientLevel, parseScopes, type Scope } from '@hmcp/core';
import { decodeJwt, decodeProtectedHeader } from 'jose';

/** What {@link describeToken} found: text to show, and whether some rule makes the token useless at every hop. */
export type TokenDescription =
  | { readonly ok: true; readonly text: string; readonly unusable: boolean }
  | { readonly ok: false; readonly reason: string };

interface DescriptionOptions {
  /** Wall clock in ms. */
  readonly now: number;
  readonly showPatient: boolean;
}

/** The most that any hop tolerates, in seconds: clock difference, and age of a token. */
const LEEWAY_SECONDS = 60;
const OLDEST_SECONDS = 43_200;

/** Claims shown by value; of any other only the name is. */
const KNOWN = new Set(
  'iss sub aud exp iat nbf jti client_id scope patient encounter tenant fhirUser act txn cnf __hmcp'.split(' '),
);

/**
 * Describes a JWT for a developer, from its own words: nothing is verified and the token is not repeated.
 * Ids of patient and encounter are left out, wherever they stand, unless `showPatient`.
 * @see protocol section 2.1
 */
export function describeToken(token: string, { now, showPatient }: DescriptionOptions): TokenDescription {
  const parts = token.split('.').length;
  if (token === '') return { ok: false, reason: 'there is no token' };
  if (parts === 5) return { ok: false, reason: 'this token is encrypted (JWE); only its recipient can read it' };
  if (parts !== 3 || token.length > 32_768)
    return { ok: false, reason: 'this is no JWT; an opaque token says nothing of itself' };
  let header: Readonly<Record<string, unknown>>;
  let claims: Readonly<Record<string, unknown>>;
  try {
    header = decodeProtectedHeader(token);
    claims = decodeJwt(token);
  } catch {
    return { ok: false, reason: 'this looks like a JWT, but header or claims are no base64url of a JSON object' };
  }

  const hide = showPatient ? (text: string) => text : concealer(claims);
  const show = (value: unknown): string =>
    hide(plainText(typeof value === 'string' ? value : (JSON.stringify(value) ?? ''), 2048));
  const scopes = parseScopes(typeof claims.scope === 'string' ? claims.scope : '');
  const faults = faultsOf(header, claims, scopes, now / 1000);
  const rows: [string, string | undefined][] = [
    [
      'header',
      ['alg', 'typ', 'kid'].map((name) => `${name} ${header[name] === undefined ? '(none)' : show(header[name])}`).join(', '),
    ],
    ['issuer', given(claims.iss, show)],
    ['audience', given(claims.aud, (aud) => [aud].flat().map(show).join(', '))],
    ['client', given(claims.client_id, show)],
    ['subject', isOwnRecord(claims) && !showPatient ? HIDDEN : given(claims.sub, show)],
    ['person', isOwnRecord(claims) && !showPatient ? `${fhirUserType(claims)}, ${HIDDEN}` : given(claims.fhirUser, show)],
    ['patient', given(claims.patient, show)],
    ['encounter', given(claims.encounter, show)],
    ['tenant', given(claims.tenant, show)],
    ['issued', given(claims.iat, (at) => instant(at, now))],
    ['expires', given(claims.exp, (at) => instant(at, now))],
    ['token id', given(claims.jti, show)],
    ['txn', given(claims.txn, show)],
    ['session', given((claims.__hmcp as { sid?: unknown } | undefined)?.sid, show)],
    ['chain', tellChain(claims, show)],
  ];
  const others = Object.keys(claims).filter((name) => !KNOWN.has(name));
  const lines = [
    'Claims of the token in its own words. Its signature was NOT verified.',
    '',
    ...rows.flatMap(([name, value]) => (value === undefined ? [] : [`${name.padEnd(10)}${value}`])),
    scopes.length === 0 ? 'scopes    none' : 'scopes',
    ...scopes.map((scope) => `  ${show(scope.raw)}  (${tellScope(scope)})`),
    ...(others.length === 0
      ? []
      : [
          `also      ${others
            .slice(0, 30)
            .map((name) => hide(plainText(name, 64)))
            .join(', ')} (values not shown)`,
        ]),
    ...(faults.length === 0 ? [] : ['', 'No hop accepts it:', ...faults.map((fault) => `  ${fault}`)]),
  ];
  return { ok: true, text: `${lines.join('\n')}\n`, unusable: faults.length > 0 };
}

const HIDDEN = '(hidden; --show-patient shows it)';

function given(value: unknown, tell: (value: unknown) => string): string | undefined {
  return value === undefined ? undefined : tell(value);
}

/** Replaces the ids of patient and encounter, wherever they stand as a whole word. */
function concealer({ patient, encounter }: Readonly<Record<string, unknown>>): (text: string) => string {
  const ids = [patient, encounter].filter((id): id is string => typeof id === 'string' && id !== '');
  const odd = [patient, encounter].some((id) => id !== undefined && typeof id !== 'string');
  if (odd) return () => HIDDEN;
  if (ids.length === 0) return (text) => text;
  const words = ids.map((id) => plainText(id, 2048).replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&')).join('|');
  const pattern = new RegExp(`(?<![A-Za-z0-9])(?:${words})(?![A-Za-z0-9])`, 'g');
  return (text) => text.replace(pattern, HIDDEN);
}

function fhirUserType({ fhirUser }: Readonly<Record<string, unknown>>): string {
  return typeof fhirUser === 'string' ? (/(?:^|\/)(Patient|RelatedPerson|Person)\/[^/]+$/.exec(fhirUser)?.[1] ?? '') : '';
}

/** True when the person is a patient or relative: then `sub` and `fhirUser` name a patient too. */
function isOwnRecord(claims: Readonly<Record<string, unknown>>): boolean {
  return fhirUserType(claims) !== '';
}

function instant(value: unknown, now: number): string {
  if (typeof value !== 'number' || !Number.isFinite(value) || Math.abs(value) > 8.64e12) return 'not a time';
  const seconds = Math.round(value - now / 1000);
  return `${new Date(value * 1000).toISOString()} (${seconds < 0 ? `${-seconds} s ago` : `in ${seconds} s`})`;
}

function tellChain(claims: Readonly<Record<string, unknown>>, show: (value: unknown) => string): string | undefined {
  const parsed = AccessTokenClaims.safeParse(claims);
  if (!parsed.success) return undefined;
  const verdict = checkChain(parsed.data);
  if (!verdict.ok) return undefined;
  const clients = [...(parsed.data.__hmcp?.chain ?? []).map((record) => record.client_id), parsed.data.client_id];
  return `${clients.map(show).join(' → ')} → this hop, number ${verdict.hop}`;
}

function tellScope(scope: Scope): string {
  switch (scope.kind) {
    case 'resource': {
      const whose = {
        patient: 'the patient of the token',
        user: 'what the person may see',
        system: 'a system',
        unprefixed: 'no level',
      };
      const limits =
        scope.constraints.size > 0
          ? `, only ${[...scope.constraints.keys()].map((name) => plainText(name, 64)).join(', ')} as given`
          : '';
      return `${[...scope.ops].join('')} on ${plainText(scope.type, 128)} of ${whose[scope.level]}${limits}`;
    }
    case 'hmcp':
      return `${[...scope.ops].join(', ')} of agents' own tools, ${scope.level === 'patient' ? 'for the patient of the token' : 'no level'}`;
    case 'control':
      return `context sessions: ${scope.grant}`;
    case 'access':
      return 'operations without a patient';
    case 'launch':
    case 'identity':
      return 'for the authorization server; grants nothing at a hop';
    default:
      return 'not understood; grants nothing';
  }
}

/** Why every hop would answer 401, as far as a token shows it by itself. */
function faultsOf(
  header: Readonly<Record<string, unknown>>,
  claims: Readonly<Record<string, unknown>>,
  scopes: readonly Scope[],
  now: number,
): string[] {
  const faults: string[] = [];
  const { alg, typ, kid, crit } = header;
  if (typeof typ !== 'string' || !/^(application\/)?at\+jwt$/i.test(typ)) {
    faults.push('"typ" is not at+jwt: it is no access token (RFC 9068)');
  }
  if (typeof alg !== 'string' || /^(none|HS\d+)$/i.test(alg)) faults.push('"alg" is no public-key signature');
  if (typeof kid !== 'string' || kid === '') faults.push('"kid" is missing: its key cannot be found');
  if (crit !== undefined) faults.push('"crit" names extensions that no hop knows');
  const parsed = AccessTokenClaims.safeParse(claims);
  if (!parsed.success) {
    const names = new Set(parsed.error.issues.map((issue) => plainText(String(issue.path[0] ?? 'claims'), 64)));
    for (const name of names) faults.push(`"${name}" is missing or ill-typed`);
    return faults;
  }
  const { exp, nbf, iat, cnf, patient, aud } = parsed.data;
  if (exp + LEEWAY_SECONDS <= now) faults.push('it has expired');
  if (Math.max(nbf ?? iat, iat) - LEEWAY_SECONDS > now) faults.push('its time has not come');
  if (hasPatientLevel(scopes) && patient === undefined) faults.push('a patient/ scope without a "patient"');
  if (iat + OLDEST_SECONDS + LEEWAY_SECONDS < now) faults.push('it is older than any hop takes (12 h)');
  if (Array.isArray(aud) && new Set(aud).size !== 1) faults.push('"aud" names more or less than one server');
  if (cnf !== undefined) faults.push('"cnf": bound tokens are not supported yet');
  const chain = checkChain(parsed.data);
  if (!chain.ok) faults.push(chain.reason);
  return faults;
}
