import { posix } from 'node:path';
import { isNode, parseModule, type SyntaxNode } from './module-links.js';

/** One name a built `.d.ts` exports. */
export interface ExportedName {
  readonly name: string;
  /** `type`: gone at run time. A schema and its type of one name are a `value`. */
  readonly kind: 'value' | 'type';
  /** The `.d.ts` that declares it. */
  readonly file: string;
  /** Text of its docstring, without the stars; `undefined` when it has none. */
  readonly docs: string | undefined;
  /** Names inside an interface, object type or object schema, nested ones as `outer.inner`; else none. */
  readonly members: readonly string[];
}

/** Where the exports of a module are read from: text by path. */
export type ReadModule = (path: string) => string;

/**
 * The names a built declaration file exports, followed through `export … from './x.js'`.
 * @throws Error on `export *`, which exports whatever the other file happens to have
 */
export function exportsOf(entry: string, read: ReadModule): ExportedName[] {
  const text = read(entry);
  const { body } = parseModule(text, entry);
  const statements = (Array.isArray(body) ? body : []).filter(isNode);
  const found: ExportedName[] = [];
  statements.forEach((statement, index) => {
    const gap = text.slice(index === 0 ? 0 : (statements[index - 1]?.end ?? 0), statement.start);
    if (statement.type === 'ExportAllDeclaration') throw new Error(`${entry}: "export *" hides what is exported`);
    if (statement.type === 'ExportDefaultDeclaration') found.push(declared('default', 'value', entry, gap, undefined));
    if (statement.type !== 'ExportNamedDeclaration') return;
    if (isNode(statement.declaration)) {
      found.push(...declarationsIn(statement.declaration, entry, gap));
      return;
    }
    for (const { local, exported, typeOnly } of specifiersOf(statement)) {
      const from = isNode(statement.source) ? String(statement.source.value) : importedFrom(statements, local);
      const origin = from === undefined ? localNames(statements, text, entry) : follow(from, entry, read);
      const original = origin?.find(({ name }) => name === local);
      // What another project declares is documented there.
      const plain = {
        name: exported,
        kind: typeOnly ? 'type' : 'value',
        file: from ?? entry,
        docs: 'elsewhere',
        members: [],
      } as const;
      if (origin !== undefined && original === undefined) throw new Error(`${entry}: exports ${local}, which nothing declares`);
      found.push(original === undefined ? plain : { ...original, name: exported, kind: typeOnly ? 'type' : original.kind });
    }
  });
  return merged(found);
}

function follow(from: string, entry: string, read: ReadModule): ExportedName[] | undefined {
  if (!from.startsWith('.')) return undefined;
  return exportsOf(posix.join(posix.dirname(entry), from.replace(/\.js$/, '.d.ts')), read);
}

/** One entry a name: a schema and its type, or the overloads of a function, count as one and need one docstring. */
function merged(names: readonly ExportedName[]): ExportedName[] {
  const byName = new Map<string, ExportedName>();
  for (const name of names) {
    const other = byName.get(name.name);
    const kind = other?.kind === 'value' ? 'value' : name.kind;
    const members = [...new Set([...(other?.members ?? []), ...name.members])];
    byName.set(name.name, { ...name, kind, docs: other?.docs ?? name.docs, members });
  }
  return [...byName.values()];
}

function declared(name: string, kind: 'value' | 'type', file: string, gap: string, shape: unknown): ExportedName {
  return { name, kind, file, docs: docstringIn(gap), members: membersOf(shape) };
}

/** The docstring at the end of the text before a statement. */
function docstringIn(gap: string): string | undefined {
  const [, inside] = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*$/.exec(gap) ?? [];
  const words = inside?.replace(/^\s*\* ?/gm, '').trim();
  return words ? words : undefined;
}

function declarationsIn(node: SyntaxNode, file: string, gap: string): ExportedName[] {
  if (node.type === 'VariableDeclaration') {
    const declarators = (Array.isArray(node.declarations) ? node.declarations : []).filter(isNode);
    return declarators.map(({ id }) => {
      const name = isNode(id) ? id : undefined;
      const annotation = name && isNode(name.typeAnnotation) ? name.typeAnnotation.typeAnnotation : undefined;
      return declared(String(name?.name), 'value', file, gap, annotation);
    });
  }
  const name = isNode(node.id) ? String(node.id.name) : undefined;
  if (name === undefined) return [];
  const isType = node.type === 'TSInterfaceDeclaration' || node.type === 'TSTypeAliasDeclaration';
  const shape = node.type === 'TSInterfaceDeclaration' ? node : node.typeAnnotation;
  return [declared(name, isType ? 'type' : 'value', file, gap, isType ? shape : undefined)];
}

/** Names declared without `export` in front, for an `export { … }` below them. */
function localNames(statements: readonly SyntaxNode[], text: string, file: string): ExportedName[] {
  const names = statements.flatMap((statement, index) =>
    declarationsIn(statement, file, text.slice(statements[index - 1]?.end ?? 0, statement.start)),
  );
  return merged(names);
}

function specifiersOf(statement: SyntaxNode): { local: string; exported: string; typeOnly: boolean }[] {
  return (Array.isArray(statement.specifiers) ? statement.specifiers : []).filter(isNode).map((specifier) => ({
    local: nameOf(specifier.local),
    exported: nameOf(specifier.exported),
    typeOnly: statement.exportKind === 'type' || specifier.exportKind === 'type',
  }));
}

function importedFrom(statements: readonly SyntaxNode[], local: string): string | undefined {
  for (const statement of statements) {
    if (statement.type !== 'ImportDeclaration' || !Array.isArray(statement.specifiers) || !isNode(statement.source)) continue;
    if (statement.specifiers.some((specifier) => isNode(specifier) && nameOf(specifier.local) === local))
      return String(statement.source.value);
  }
  return undefined;
}

function nameOf(node: unknown): string {
  return isNode(node) ? String(node.name ?? node.value) : '';
}

/** Member names of an interface, an object type, an object schema, or of any of them in a union or array. */
function membersOf(node: unknown): string[] {
  if (!isNode(node)) return [];
  const inside: unknown[] = [];
  for (const part of [node.body, node.members, node.types, node.elementType]) {
    if (Array.isArray(part)) inside.push(...part);
    else if (isNode(part)) inside.push(part);
  }
  // `z.ZodObject<{ … }>`, `z.ZodOptional<…>`, `Readonly<…>`, `readonly X[]`
  if (isNode(node.typeArguments) && Array.isArray(node.typeArguments.params)) inside.push(...node.typeArguments.params);
  if (node.type === 'TSTypeOperator') inside.push(node.typeAnnotation);
  return inside.flatMap((part) => {
    if (!isNode(part)) return [];
    if (part.type !== 'TSPropertySignature' && part.type !== 'TSMethodSignature') return membersOf(part);
    const name = nameOf(part.key);
    const type = isNode(part.typeAnnotation) ? part.typeAnnotation.typeAnnotation : undefined;
    return [name, ...membersOf(type).map((member) => `${name}.${member}`)];
  });
}
