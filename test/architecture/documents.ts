import { posix } from 'node:path';

/** A fenced block of a Markdown document. */
export interface Fence {
  readonly line: number;
  /** First word after the fence: `ts`, `sh`. */
  readonly language: string;
  /** `path#region` of `source="…"`. */
  readonly source: string | undefined;
  readonly code: string;
}

/** Text of a repository file, `undefined` when there is none. */
export type ReadFile = (path: string) => string | undefined;

/** The fenced blocks of a Markdown text, in order. */
export function fencesOf(markdown: string): Fence[] {
  const fences: Fence[] = [];
  let open: { line: number; info: string; fence: string; indent: number; code: string[] } | undefined;
  markdown.split(/\r?\n/).forEach((text, index) => {
    const [, indent = '', fence = '', info = ''] = /^(\s*)(`{3,}|~{3,})\s*(.*)$/.exec(text) ?? [];
    if (open === undefined) {
      if (fence) open = { line: index + 1, info: info.trim(), fence, indent: indent.length, code: [] };
    } else if (fence.startsWith(open.fence) && info === '') {
      const [, source] = /\bsource="([^"]+)"/.exec(open.info) ?? [];
      fences.push({ line: open.line, language: open.info.split(/\s/)[0] ?? '', source, code: open.code.join('\n') });
      open = undefined;
    } else {
      open.code.push(text.slice(Math.min(open.indent, text.length - text.trimStart().length)));
    }
  });
  if (open) throw new Error(`the block that opens in line ${open.line} does not close`);
  return fences;
}

/**
 * The lines between `// #region name` and its `// #endregion`, without the indentation they share and without the marks of
 * other regions; the whole text when no region is named; `undefined` when there is no such region, or two.
 */
export function regionOf(text: string, region: string | undefined): string | undefined {
  const lines = text.split(/\r?\n/);
  let inside = lines;
  if (region !== undefined) {
    const starts = lines.flatMap((line, index) => (markOf(line) === region ? [index] : []));
    const [start] = starts;
    if (start === undefined || starts.length > 1) return undefined;
    let depth = 1;
    const end = lines.findIndex((line, index) => {
      if (index > start) depth += markOf(line) === undefined ? 0 : markOf(line) === '' ? -1 : 1;
      return depth === 0;
    });
    if (end < 0) return undefined;
    inside = lines.slice(start + 1, end);
  }
  inside = inside.filter((line) => markOf(line) === undefined);
  const shared = Math.min(...inside.filter((line) => line.trim()).map((line) => line.length - line.trimStart().length));
  return inside
    .map((line) => line.slice(shared))
    .join('\n')
    .trim();
}

/** Name of the region a line opens, `''` when it closes one, `undefined` when it does neither. */
function markOf(line: string): string | undefined {
  const [, start, name = ''] = /^\s*\/\/\s*#(region|endregion)\b\s*(.*?)\s*$/.exec(line) ?? [];
  return start === undefined ? undefined : start === 'region' ? name : '';
}

/** Blocks that name their source and differ from it; with `all`, also TypeScript that names none. */
export function checkFences(document: string, markdown: string, read: ReadFile, all = false): string[] {
  return fencesOf(markdown).flatMap(({ line, language, source, code }) => {
    const at = `${document}:${line}`;
    if (source === undefined)
      return all && /^(ts|typescript|js|javascript|mjs)$/.test(language) ? [`${at} code without source="examples/…"`] : [];
    const [path = '', region] = source.split('#');
    const text = read(path);
    if (text === undefined) return [`${at} names ${path}, which is not there`];
    const expected = regionOf(text, region);
    if (expected === undefined) return [`${at} names the region "${region}" of ${path}, which is not there once`];
    return expected === code.trim() ? [] : [`${at} differs from ${source}`];
  });
}

/** Commands in a document that would not run: npm scripts, `hmcp` commands and files that are not there. */
export function checkCommands(
  document: string,
  markdown: string,
  exists: (path: string) => boolean,
  scripts: readonly string[],
  hmcpCommands: readonly string[],
): string[] {
  const found: string[] = [];
  markdown.split(/\r?\n/).forEach((text, index) => {
    const say = (what: string) => found.push(`${document}:${index + 1} ${what}`);
    for (const [, name = ''] of text.matchAll(/\bnpm (?:--?[a-z-]+ )*run (?:--?[a-z-]+ )*([a-z][\w:-]*)/g))
      if (!scripts.includes(name)) say(`there is no script "npm run ${name}"`);
    for (const [, name = ''] of text.matchAll(/\bnpm (start|test)\b/g))
      if (!scripts.includes(name)) say(`there is no "npm ${name}"`);
    for (const [, name = ''] of text.matchAll(/(?:\bnpx hmcp|\bnpm run (?:--?[a-z-]+ )*hmcp --|[`$] ?hmcp) ([a-z]+)/g))
      if (!hmcpCommands.includes(name)) say(`there is no command "hmcp ${name}"`);
    for (const [, path = ''] of text.matchAll(/(?:^|[`\s])(?:node|bash|sh) ((?:\.{0,2}[\w-]+\/)*\.?[\w.-]+\/[\w.-]+)/g))
      if (!exists(path) && !exists(sourceOf(path))) say(`there is no file ${path}`);
  });
  return found;
}

/** Links of a document to files that are not there. */
export function checkLinks(document: string, markdown: string, exists: (path: string) => boolean): string[] {
  return markdown.split(/\r?\n/).flatMap((text, index) =>
    [...text.matchAll(/\]\((?![a-z]+:|#)([^)#\s]+)[^)]*\)/g)]
      .map(([, target = '']) => target)
      .filter((target) => !exists(posix.join(posix.dirname(document), target)))
      .map((target) => `${document}:${index + 1} links to ${target}, which is not there`),
  );
}

/** What `dist` is built from: `packages/cli/dist/main.js` → `packages/cli/src/main.ts`. */
function sourceOf(path: string): string {
  const source = path.startsWith('examples/') ? path.replace('examples/dist/', 'examples/') : path.replace('/dist/', '/src/');
  return source.replace(/\.js$/, '.ts');
}
