import { checksToldApart, ERRORS, type HmcpErrorCode, meaningOf, RETRY_SENTENCES } from '@hmcp/core';
import { fencesOf, regionOf } from './documents.js';

/** Where the page of a code stands. */
export const pageOf = (code: HmcpErrorCode): string => `docs/errors/${code}.md`;

/** Every code there is. */
export const CODES = Object.keys(ERRORS).map(Number) as readonly HmcpErrorCode[];

/**
 * Holds the page of a code against the table of refusals, the protocol's checks, and its two examples; what is wrong, in sentences.
 * @param read gives the text of a source file
 */
export function checkPage(
  code: HmcpErrorCode,
  text: string | undefined,
  checks: string | undefined,
  read: (path: string) => string | undefined,
): string[] {
  if (text === undefined) return [`${code} has no page`];
  const { name, retry, says, mend } = meaningOf(code);
  const facts = [
    `# ${code} ${name}\n`,
    `\n| means | ${says} |\n`,
    `\n| check | ${checks} |\n`,
    `\n| retry | ${retry}: ${RETRY_SENTENCES[retry]} |\n`,
    `\n| mend | ${mend} |\n`,
    ...checksToldApart(code).map((check) => {
      const particular = meaningOf(code, check);
      return `\n| ${check} | ${particular.says} | ${particular.mend} |\n`;
    }),
  ];
  const faults = facts.filter((fact) => !text.includes(fact)).map((fact) => `${code} does not say: ${fact.trim()}`);
  if (!/\n\| refused by \| \w[^|]* \|\n/.test(text)) faults.push(`${code} does not say who refuses`);
  const sources = fencesOf(text).flatMap(({ source }) => source ?? []);
  for (const kind of ['refused', 'mended'] as const) {
    const source = sources.find((one) => one.endsWith(`#${code}-${kind}`));
    const [file = '', region = ''] = source?.split('#') ?? [];
    const shown = source === undefined ? undefined : regionOf(read(file) ?? '', region);
    if (shown === undefined) faults.push(`${code} shows no ${kind} example`);
    else if (!/^examples\/errors\/[\w-]+\.test\.ts$/.test(file)) faults.push(`${code}: its ${kind} example is no test`);
    else if (!shown.includes('expect(')) faults.push(`${code}: its ${kind} example expects nothing`);
    else if (kind === 'refused' && !new RegExp(`\\b${code}\\b`).test(shown))
      faults.push(`${code} is not what its example refuses with`);
  }
  return faults;
}

/** Holds the index against the table: every code once, in order, with its name, retry rule and meaning. */
export function checkIndex(text: string): string[] {
  const rows = text.split('\n').filter((line) => line.startsWith('| ['));
  const wanted = CODES.toSorted((a, b) => a - b).map((code) => {
    const { name, retry, says } = ERRORS[code];
    return `| [${code}](${code}.md) | ${name} | ${retry} | ${says} |`;
  });
  return rows.join('\n') === wanted.join('\n') ? [] : ['the index is not the table of refusals'];
}

/** The checks of each code as the protocol lists them. */
export function protocolChecks(protocol: string): ReadonlyMap<string, string> {
  return new Map(
    [...protocol.matchAll(/^\| (\d{5}) \|.* \| ([a-z, ]+) \|$/gm)].map(([, code = '', checks = '']) => [code, checks]),
  );
}
