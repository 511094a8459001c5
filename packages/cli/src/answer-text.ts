import { plainText } from '@hmcp/audit';

/** What a tool answered, as a terminal may show it: a text line by line, anything else as JSON. */
export function shown(answer: unknown): string {
  if (typeof answer === 'string') return answer.replaceAll(/[^\t\n]+/g, (run) => plainText(run, run.length)); // tabs and ends of lines stay
  return printable(JSON.stringify(answer, null, 2) ?? 'null');
}

/** The same JSON, with what a terminal would obey or hide written as escapes. */
export function printable(json: string): string {
  return json.replaceAll(/[\p{Cf}\p{Zl}\p{Zp}\u007f-\u009f]/gu, (found) =>
    [...Array(found.length).keys()].map((at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, '0')}`).join(''),
  );
}
