import {
  LONGEST_REFERENCE,
  normalBase,
  type ReferencePlace,
  type Resolution,
  resolvePatient,
  resolveReference,
} from './references.js';

const PATIENT_PARAMETER = new Set(['patient', 'subject', 'beneficiary']);
const CONTROL_PARAMETER = /^_(?:count|elements|format|getpages\w*|getpagesoffset|lastUpdated|pretty|sort|summary|total)$/;

/**
 * Whom a string mentions: `Patient/<id>` and `patient://<id>` anywhere in it, and `patient=`, `subject=`, `Patient?_id=` of a
 * URL, percent-encoded or not. `other` when nobody. In running text a slash between two plain words ("Patient/family") is prose.
 * @see protocol section 7
 */
export function mentionedPatient(text: string, place: ReferencePlace): Resolution {
  let found: Resolution = 'other';
  let current = text;
  for (let round = 0; round < 3; round += 1) {
    for (const mentions of [pathMentions, queryMentions]) {
      for (const resolution of mentions(current, place)) {
        if (resolution !== 'own') return resolution;
        found = 'own';
      }
    }
    const decoded = decodeOnce(current);
    if (decoded === current) return found;
    current = decoded;
  }
  return decodeOnce(current) === current ? found : 'unknown'; // encoded more often than anybody does honestly
}

function decodeOnce(text: string): string {
  if (!text.includes('%')) return text;
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

function* pathMentions(text: string, place: ReferencePlace): Generator<Resolution> {
  let spaced: boolean | undefined;
  for (let at = text.indexOf('Patient/'); at !== -1; at = text.indexOf('Patient/', at + 8)) {
    const before = text.charAt(at - 1);
    if (/[A-Za-z0-9_]/.test(before)) continue; // "InPatient/…"
    const id = /^[A-Za-z0-9\-.]*/.exec(text.slice(at + 8, at + 8 + 80))?.[0] ?? '';
    if (id === '') continue;
    if (before === '/') yield resolvePatient(baseBefore(text, at), id, place.own);
    else {
      const inText = !/\d/.test(id) && !/["'=]/.test(before);
      if (inText) spaced ??= /\s/.test(text);
      if (!inText || !spaced) yield resolvePatient(place.base, id, place.own);
    }
  }
  for (const [, id] of text.matchAll(/\b[Pp]atient:\/\/([^\s/?#"'<>]*)/g)) yield resolvePatient(place.base, id, place.own);
}

/** The base URL that ends just before index `at`; undefined when there is none. */
function baseBefore(text: string, at: number): string | undefined {
  let start = at;
  while (start > 0 && at - start < LONGEST_REFERENCE && !/[\s"'<>()[\]{},;|=&?]/.test(text.charAt(start - 1))) start -= 1;
  return normalBase(text.slice(start, at));
}

function* queryMentions(text: string, place: ReferencePlace): Generator<Resolution> {
  if (!text.includes('?') || text.startsWith('mailto:')) return;
  for (const token of text.split(/[\s"'<>]+/)) {
    const at = token.indexOf('?');
    if (at === -1 || !token.includes('=', at)) continue;
    const ofPatients = /(?:^|\/)Patient(?:\/_search)?$/.test(token.slice(0, at));
    for (const pair of token.slice(at + 1).split(/[&?#]/)) {
      const [name = '', ...rest] = pair.split('=');
      yield* parameterMentions(name, rest.join('='), ofPatients, place);
    }
  }
}

function* parameterMentions(name: string, value: string, ofPatients: boolean, place: ReferencePlace): Generator<Resolution> {
  const plain = name.replace(/[:.].*$/, '');
  if (plain === '_has') yield 'unknown';
  else if (PATIENT_PARAMETER.has(plain)) {
    if (name !== plain && name !== `${plain}:Patient`)
      yield 'unknown'; // a chain or modifier may reach anybody
    else for (const one of value.split(',')) yield resolveParameter(one, place);
  } else if (ofPatients && plain === '_id') {
    for (const one of value.split(',')) yield resolvePatient(place.base, decodeOnce(one), place.own);
  } else if (ofPatients && !CONTROL_PARAMETER.test(plain)) yield 'unknown';
}

function resolveParameter(raw: string, place: ReferencePlace): Resolution {
  const value = decodeOnce(raw);
  if (/^[A-Za-z0-9\-.]{1,64}$/.test(value)) return resolvePatient(place.base, value, place.own);
  const resolution = resolveReference(value, place);
  return resolution === 'own' ? 'own' : 'unknown';
}
