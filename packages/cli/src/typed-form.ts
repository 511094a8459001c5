import type { SwitchAnswer, SwitchDialog } from '@hmcp/agent';
import type { CommandIo } from './command.js';

/** Lines a person types, one at a time. */
export interface TypedLines {
  /** `undefined` when there will be no more. */
  next(): Promise<string | undefined>;
}

/** Reads lines from what is typed at a terminal or piped in. */
export function typedLines(stdin: CommandIo['stdin']): TypedLines {
  const chunks = stdin[Symbol.asyncIterator]();
  const decoder = new TextDecoder();
  let held = '';
  let ended = false;
  return {
    async next() {
      for (;;) {
        const at = held.indexOf('\n');
        if (at >= 0) {
          const line = held.slice(0, at).replace(/\r$/, '');
          held = held.slice(at + 1);
          return line;
        }
        if (ended) {
          const rest = held === '' ? undefined : held;
          held = '';
          return rest;
        }
        const { value, done } = await chunks.next();
        if (done) ended = true;
        else held += typeof value === 'string' ? value : decoder.decode(value, { stream: true });
      }
    },
  };
}

/**
 * Puts a dialog to the person at the terminal, field by field. An empty line, or the end of the input, is a decline; there is
 * nothing to accept by pressing return.
 */
export async function askAtTerminal(
  { message, fields, round }: SwitchDialog,
  lines: TypedLines,
  out: CommandIo['stdout'],
): Promise<SwitchAnswer> {
  out.write(`${round > 1 ? '\nOnce more.\n' : '\n'}${message}\nAn empty line leaves everything as it is.\n`);
  const answer: Record<string, string | boolean> = {};
  for (const { name, title, kind, choices } of fields) {
    const hint = { text: '', number: '', date: ' (YYYY-MM-DD)', 'yes-no': ' (yes)', choice: ` (${(choices ?? []).join(', ')})` }[
      kind
    ];
    out.write(`  ${title}${hint}: `);
    const typed = (await lines.next())?.trim();
    if (typed === undefined || typed === '') return 'decline';
    if (kind === 'yes-no' && typed.toLowerCase() !== 'yes') return 'decline';
    answer[name] = kind === 'yes-no' ? true : typed;
  }
  return answer;
}
