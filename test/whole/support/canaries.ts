import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeShippedPeople } from '@hmcp/clinic';

/** One place a canary was found. */
export interface Hit {
  /** Where: which file, output or part of a message. */
  readonly where: string;
  /** The field of the records it was planted in, such as `Patient.name.0.family`. */
  readonly field: string;
  /** How it was written there. */
  readonly form: 'plain' | 'base64' | 'percent' | 'hex';
}

/** Words FHIR and the agents read, and the two elements planted on their own; any other text may be anything. */
const KEPT = new Set(['id', 'family', 'resourceType', 'reference', 'system', 'status', 'use', 'gender', 'code', 'intent', 'url']);
const WORD = /cnry[0-9a-f]{6}z/gi;
const NUMBER = /\d+\.\d{6,}/g;
const DATE = /\d{4}-\d\d-\d\d(T[\d:.]+Z)?/g;

/** Unique values in every field of two charts, and the search for them in whatever leaves the processes. */
export class Canaries {
  /** By canary, in lower case. */
  readonly #fields = new Map<string, string>();
  /** What both people share, so that they have one family name. */
  readonly family = this.#word('Patient.name.family');

  /** How many there are. */
  get size(): number {
    return this.#fields.size;
  }

  /** The canary planted in a field whose path ends so. @param nth which of them, in the order of the records */
  of(field: string, nth = 0): string {
    const [canary] = [...this.#fields].filter(([, planted]) => planted.endsWith(field))[nth] ?? [];
    if (canary === undefined) throw new Error(`no canary in a field ${field}`);
    return canary;
  }

  /** Writes the shipped people into a folder, the first two with a canary in every field. */
  async writePeople(folder: string): Promise<void> {
    await writeShippedPeople(folder);
    for (const name of ['person-1.json', 'person-2.json']) {
      const file = join(folder, name);
      const { entry, ...bundle } = JSON.parse(await readFile(file, 'utf8')) as { entry: { resource: Resource }[] };
      for (const { resource } of entry) this.#plant(resource);
      await writeFile(file, JSON.stringify({ ...bundle, entry }));
    }
  }

  /** Every canary in a text, also inside what is encoded there. */
  find(where: string, text: string): Hit[] {
    const hits = new Map<string, Hit>();
    const look = (shown: string, form: Hit['form']): void => {
      for (const pattern of [WORD, NUMBER, DATE])
        for (const [found] of shown.matchAll(pattern)) {
          const field = this.#fields.get(found.toLowerCase());
          if (field !== undefined && !hits.has(found.toLowerCase())) hits.set(found.toLowerCase(), { where, field, form });
        }
    };
    look(text, 'plain');
    if (/%[0-9a-f]{2}/i.test(text))
      look(
        text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => letter(hex)),
        'percent',
      );
    for (const [run] of text.matchAll(/[A-Za-z0-9+/_-]{12,}/g)) {
      // A value may begin anywhere in a run, so each of the four alignments is read.
      for (let shift = 0; shift < 4; shift++) look(Buffer.from(run.slice(shift), 'base64').toString('latin1'), 'base64');
      if (/^[0-9a-f]+$/i.test(run)) look(Buffer.from(run, 'hex').toString('latin1'), 'hex');
    }
    return [...hits.values()];
  }

  #plant(resource: Resource): void {
    const type = resource.resourceType;
    this.#into(resource, type);
    const add = (element: string): string => this.#word(`${type}.${element}`);
    // Elements no shipped chart has, and some chart has.
    resource.id = add('id');
    resource.text = { status: 'generated', div: `<div xmlns="http://www.w3.org/1999/xhtml">${add('text.div')}</div>` };
    resource.note = [{ text: add('note.text'), authorString: add('note.author') }];
    resource.extension = [{ url: 'https://clinic.example/remark', valueString: add('extension') }];
    if (type === 'Patient') {
      for (const name of resource.name as { family: string }[]) name.family = this.family;
      resource.contact = [{ name: { text: add('contact.name') }, telecom: [{ system: 'phone', value: add('contact.phone') }] }];
    }
  }

  #into(node: Record<string, unknown>, path: string): void {
    for (const [key, value] of Object.entries(node)) {
      const field = `${path}.${key}`;
      if (typeof value === 'object' && value !== null) this.#into(value as Record<string, unknown>, field);
      else if (typeof value === 'number') node[key] = this.#number(value, field);
      else if (typeof value === 'string' && !KEPT.has(key)) node[key] = this.#text(value, field);
    }
  }

  #text(value: string, field: string): string {
    if (/^\d{4}-\d\d-\d\d$/.test(value)) return this.#planted(value, field);
    const moment = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:)\d\dZ$/.exec(value)?.[1];
    // A record number is one word: its last characters are typed by the person.
    if (field.includes('.identifier.')) return `${value}-${this.#word(field)}`;
    if (moment === undefined) return `${value} ${this.#word(field)}`;
    const count = this.#fields.size;
    return this.#planted(`${moment}${pad(count % 60, 2)}.${pad(count % 1000, 3)}Z`, field);
  }

  #number(value: number, field: string): number {
    const planted = Number(`${value.toFixed(2)}7${pad(this.#fields.size, 4)}3`);
    this.#planted(String(planted), field);
    return planted;
  }

  #word(field: string): string {
    return this.#planted(`cnry${pad(this.#fields.size * 4099, 6, 16)}z`, field);
  }

  #planted(canary: string, field: string): string {
    this.#fields.set(canary.toLowerCase(), field);
    return canary;
  }
}

interface Resource extends Record<string, unknown> {
  readonly resourceType: string;
}

function pad(count: number, digits: number, radix = 10): string {
  return count.toString(radix).padStart(digits, '0').slice(-digits);
}

function letter(hex: string): string {
  return String.fromCharCode(Number.parseInt(hex, 16));
}
