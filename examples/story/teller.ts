import type { WriteStream } from 'node:tty';

/** One event of the story, as `--json` prints it. Never a value, a name or an id of a patient. */
export interface StoryEvent {
  readonly type: 'ready' | 'launch' | 'call' | 'hop' | 'refused' | 'audit' | 'vote' | 'switch' | 'dropped' | 'done';
  readonly [member: string]: unknown;
}

const WIDTH = 100;

/** Tells the story: to a person in sentences and indented hops, or to a program in JSON lines. */
export class Teller {
  readonly #json: boolean;
  readonly #out: NodeJS.WritableStream;
  readonly #color: boolean;
  #ended = false;

  constructor(options: { json: boolean; out?: NodeJS.WritableStream; env?: Readonly<Record<string, string | undefined>> }) {
    this.#json = options.json;
    this.#out = options.out ?? process.stdout;
    const { NO_COLOR } = options.env ?? process.env;
    this.#color = (this.#out as WriteStream).isTTY === true && (NO_COLOR === undefined || NO_COLOR === '');
  }

  /** One sentence that opens a scene. */
  scene(number: number, sentence: string): void {
    this.#say(`\n${this.#paint('1', `${number}. ${sentence}`)}\n`);
  }

  /** A plain sentence. */
  say(sentence: string): void {
    for (const line of wrap(sentence, WIDTH - 3)) this.#say(`   ${line}\n`);
  }

  /** What happened at the left, the verdict at the right. */
  verdict(depth: number, what: string, verdict: string, mood: 'served' | 'refused' | 'wrong'): void {
    const left = `   ${'  '.repeat(depth)}${what}`;
    const room = WIDTH - verdict.length - 1;
    const fitted = left.length > room ? `${left.slice(0, room - 1)}…` : left.padEnd(room);
    this.#say(`${fitted} ${this.#paint({ served: '32', refused: '33', wrong: '31;1' }[mood], verdict)}\n`);
  }

  /**
   * A measured value: its label gives way when the line is too long, the value and its source never do.
   * @param depth 0 for a result, 1 for what bears on it
   */
  value(depth: number, { label, value, source }: { label: string; value: string; source: string }): void {
    const indent = ' '.repeat(5 + 2 * depth);
    const room = Math.max(WIDTH - indent.length - value.length - source.length - 2, 12);
    const fitted = label.length > room ? `${label.slice(0, room - 1)}…` : label;
    this.#say(`${`${indent}${fitted}${value}`.padEnd(WIDTH - source.length - 1)} ${source}\n`);
  }

  /** Nothing is told from now on. */
  end(): void {
    this.#ended = true;
  }

  /** True after {@link end}. */
  get ended(): boolean {
    return this.#ended;
  }

  /** A line for programs. */
  event(event: StoryEvent): void {
    if (this.#json && !this.#ended) this.#out.write(`${JSON.stringify(event)}\n`);
  }

  /** A block of lines as they are. */
  block(lines: readonly string[]): void {
    this.#say(`${lines.join('\n')}\n`);
  }

  #say(text: string): void {
    if (!this.#json && !this.#ended) this.#out.write(text);
  }

  #paint(code: string, text: string): string {
    return this.#color ? `\u001b[${code}m${text}\u001b[0m` : text;
  }
}

function wrap(sentence: string, width: number): string[] {
  const lines = [''];
  for (const word of sentence.split(' ')) {
    const last = lines.length - 1;
    const grown = lines[last] === '' ? word : `${lines[last]} ${word}`;
    if (grown.length <= width) lines[last] = grown;
    else lines.push(word);
  }
  return lines;
}
