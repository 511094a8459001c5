import { parseAst } from 'vitest/node';

/**
 * One way a module names another file or package.
 * - `value`: `import`, `export … from`, `import()`, `require()`, `import.meta.resolve()`; there at run time
 * - `type`: `import type`, `export type … from`, `import('…').T`; gone after the compiler
 * - `file`: `new URL('…', import.meta.url)`; names a file beside the module
 * - `computed`: an `import()` whose target cannot be read from the text
 */
export interface ModuleLink {
  readonly specifier: string;
  readonly kind: 'value' | 'type' | 'file' | 'computed';
  readonly line: number;
}

/** A node of the parser's tree: its `type`, its place in the text, and whatever else it holds. */
export interface SyntaxNode {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [member: string]: unknown;
}

/** Parses a TypeScript module (`x.d.ts` as a declaration file) with the parser that vitest already brings. */
export function parseModule(text: string, path: string): SyntaxNode {
  const lang = /\.d\.m?ts$/.test(path) ? 'dts' : /ts$/.test(path) ? 'ts' : 'js';
  return parseAst(text, { lang }, path) as unknown as SyntaxNode;
}

/** True for a node of the parser's tree. */
export function isNode(value: unknown): value is SyntaxNode {
  return typeof value === 'object' && value !== null && typeof (value as { type?: unknown }).type === 'string';
}

/** Every node of a tree, outermost first. */
export function* nodesOf(node: SyntaxNode): Generator<SyntaxNode> {
  yield node;
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) if (isNode(child)) yield* nodesOf(child);
  }
}

/** Every file and package a module names, in the order of the text. */
export function linksOf(text: string, path: string): ModuleLink[] {
  const links: ModuleLink[] = [];
  for (const node of nodesOf(parseModule(text, path))) {
    const link = linkOf(node);
    if (link) links.push({ ...link, line: text.slice(0, node.start).split('\n').length });
  }
  return links;
}

function linkOf(node: SyntaxNode): Omit<ModuleLink, 'line'> | undefined {
  switch (node.type) {
    case 'ImportDeclaration':
      return named(node.source, node.importKind === 'type' ? 'type' : 'value');
    case 'ExportNamedDeclaration':
    case 'ExportAllDeclaration':
      return isNode(node.source) ? named(node.source, node.exportKind === 'type' ? 'type' : 'value') : undefined;
    case 'ImportExpression':
      return named(node.source, 'value');
    case 'TSImportType':
      return named(node.source, 'type');
    case 'TSExternalModuleReference':
      return named(node.expression, 'value');
    case 'CallExpression':
      return isRequire(node.callee) ? named(first(node.arguments), 'value') : undefined;
    case 'NewExpression': {
      if (!isNode(node.callee) || node.callee.name !== 'URL' || !isImportMeta(second(node.arguments))) return undefined;
      const specifier = literalOf(first(node.arguments));
      return specifier === undefined ? undefined : { specifier, kind: 'file' };
    }
    default:
      return undefined;
  }
}

function named(source: unknown, kind: 'value' | 'type'): Omit<ModuleLink, 'line'> {
  const specifier = literalOf(source);
  return specifier === undefined ? { specifier: '(computed)', kind: 'computed' } : { specifier, kind };
}

function literalOf(node: unknown): string | undefined {
  return isNode(node) && node.type === 'Literal' && typeof node.value === 'string' ? node.value : undefined;
}

/** `require(…)`, `require.resolve(…)`, `import.meta.resolve(…)`. */
function isRequire(callee: unknown): boolean {
  if (!isNode(callee)) return false;
  if (callee.type === 'Identifier') return callee.name === 'require';
  if (callee.type !== 'MemberExpression' || !isNode(callee.property) || callee.property.name !== 'resolve') return false;
  return isRequire(callee.object) || (isNode(callee.object) && callee.object.type === 'MetaProperty');
}

/** `import.meta.url`, `.dirname`, `.filename`. */
function isImportMeta(value: unknown): boolean {
  return isNode(value) && value.type === 'MemberExpression' && isNode(value.object) && value.object.type === 'MetaProperty';
}

function first(values: unknown): unknown {
  return Array.isArray(values) ? values[0] : undefined;
}

function second(values: unknown): unknown {
  return Array.isArray(values) ? values[1] : undefined;
}
