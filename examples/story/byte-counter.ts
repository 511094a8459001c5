import type { RecordedExchange } from '@hmcp/cli/world';
import type { Records } from '@hmcp/clinic';

/** Counts the bytes of answers in which anything of one patient stands, by the party they left. */
export class ByteCounter {
  readonly #markers: readonly Buffer[];
  readonly #bytes = new Map<string, number>();
  #requests = 0;
  #resting = false;
  readonly #excused = new Set<string>();

  /** Watches for one patient: ids of all their resources, names and identifiers. */
  constructor(records: Records, patient: string) {
    const texts = new Set<string>([patient]);
    for (const resource of records.ofPatient(patient)) texts.add(String(resource.id));
    const [person] = records.ofPatient(patient, 'Patient');
    const { identifier = [], name = [] } = (person ?? {}) as {
      identifier?: { value?: string }[];
      name?: { given?: string[]; family?: string }[];
    };
    for (const { value } of identifier) if (value !== undefined && value.length >= 6) texts.add(value);
    for (const { given = [], family = '' } of name) if (given[0] && family) texts.add(`${given.join(' ')} ${family}`);
    this.#markers = [...texts].map((text) => Buffer.from(text));
  }

  /** Counts one exchange. */
  readonly see = ({ to, responseBody }: RecordedExchange): void => {
    this.#requests += 1;
    if (this.#resting || this.#excused.has(to) || !this.#markers.some((marker) => responseBody.includes(marker))) return;
    this.#bytes.set(to, (this.#bytes.get(to) ?? 0) + responseBody.length);
  };

  /** Counts no more bytes of some parties: they now have a reason to name the watched patient. */
  excuse(...parties: readonly string[]): void {
    for (const party of parties) this.#excused.add(party);
  }

  /** Counts no more bytes: from now on the watched patient is the one in context. */
  rest(): void {
    this.#resting = true;
  }

  /** True when anything of the watched patient stands in the text. */
  holds(text: string): boolean {
    const bytes = Buffer.from(text);
    return this.#markers.some((marker) => bytes.includes(marker));
  }

  /** Bytes that left a party in such answers. */
  bytes(party: string): number {
    return this.#bytes.get(party) ?? 0;
  }

  /** HTTP exchanges seen. */
  get requests(): number {
    return this.#requests;
  }
}
