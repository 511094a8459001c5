import { builtinModules } from 'node:module';
import { posix } from 'node:path';
import { linksOf, type ModuleLink } from './module-links.js';
import { type Package, SCOPE, type SourceFile, type Workspace } from './workspace.js';

/** What a failing layering test shows beside its violations. */
export const PICTURE = `
  core ◄ auth ◄ { server, agent } ◄ { context-manager, authorization-server*, clinic ◄ testing } ◄ cli ◄ examples
    ▲
    └─ audit ◄ { context-manager, clinic, testing, cli }      * needs core + auth only

  Arrows never turn. server and agent never import each other. core imports no Node built-in except in ./request-scope.
  Packages reach each other only through \`exports\`. No circular import. Declared dependencies are the imported ones.`;

/** Which packages of this workspace, and which others, a package may use at run time. A new line here is a decision. */
export const ALLOWED: Readonly<Record<string, { readonly ours: readonly string[]; readonly others: readonly string[] }>> = {
  core: { ours: [], others: ['zod'] },
  auth: { ours: ['core'], others: ['jose', 'zod'] },
  audit: { ours: ['core'], others: ['pino', 'zod'] },
  server: { ours: ['core', 'auth'], others: ['@modelcontextprotocol/server', 'zod'] },
  agent: { ours: ['core', 'auth'], others: ['@modelcontextprotocol/client', 'eventemitter3', 'zod'] },
  'context-manager': {
    ours: ['core', 'auth', 'audit', 'server'],
    others: ['@modelcontextprotocol/client', '@modelcontextprotocol/server', 'jose', 'libsql', 'zod'],
  },
  'authorization-server': { ours: ['core', 'auth'], others: ['jose', 'oidc-provider', 'zod'] },
  clinic: {
    ours: ['core', 'auth', 'audit', 'server', 'agent'],
    others: ['@modelcontextprotocol/server', 'jose', 'zod'],
  },
  testing: {
    ours: ['core', 'auth', 'audit', 'server', 'agent', 'context-manager', 'clinic'],
    others: ['jose', 'vitest', 'zod'],
  },
  cli: {
    ours: ['core', 'auth', 'audit', 'server', 'agent', 'context-manager', 'authorization-server', 'clinic'],
    others: ['@modelcontextprotocol/client', 'jose', 'zod'],
  },
  examples: {
    ours: ['core', 'auth', 'audit', 'server', 'agent', 'authorization-server', 'clinic', 'context-manager', 'cli'],
    others: [
      '@modelcontextprotocol/client',
      '@modelcontextprotocol/node',
      '@modelcontextprotocol/sdk', // the server that is protected
      '@modelcontextprotocol/server',
      'jose',
      'zod',
    ],
  },
  test: { ours: [], others: [] },
};

/** Modules of core that may know Node: those behind its subpath `./request-scope`. */
const NODE_IN_CORE = ['src/request-scope.ts'];

/** A broken rule, in a sentence that begins with the file that breaks it. */
export type Violation = string;

interface Edge {
  readonly to: string;
  readonly kind: ModuleLink['kind'];
}

/** Holds a workspace against the layering rules of the architecture; the violations, none when all is well. */
export function checkLayering(workspace: Workspace): Violation[] {
  const graph = new Map<string, Edge[]>();
  const violations = workspace.packages.flatMap((pkg) => checkPackage(pkg, workspace, graph));
  return [...violations, ...nodeBehindCore(graph), ...cycles(graph)];
}

function checkPackage(pkg: Package, workspace: Workspace, graph: Map<string, Edge[]>): Violation[] {
  const allowed = ALLOWED[pkg.short];
  if (!allowed || pkg.manifest.name !== `${SCOPE}/${pkg.short}`)
    return [`${pkg.folder}/package.json: "${pkg.manifest.name}" has no place in the picture`];
  const declared = Object.keys({ ...pkg.manifest.dependencies, ...pkg.manifest.peerDependencies });
  const forTests = [...declared, ...Object.keys({ ...pkg.manifest.devDependencies, ...workspace.root.devDependencies })];
  const imported = new Set<string>();
  const found: Violation[] = [];

  for (const file of pkg.sources) {
    found.push(
      ...eachLink(file, pkg, workspace, graph, (dependency, say) => {
        imported.add(dependency);
        const short = shortName(dependency);
        if (short === undefined ? !allowed.others.includes(dependency) : !allowed.ours.includes(short))
          say(`uses ${dependency}, which ${pkg.short} may not`);
        else if (!declared.includes(dependency)) say(`uses ${dependency}, which ${pkg.folder}/package.json does not declare`);
      }),
    );
  }
  for (const file of pkg.tests) {
    found.push(
      ...eachLink(file, pkg, workspace, undefined, (dependency, say) => {
        if (!forTests.includes(dependency) && dependency !== pkg.manifest.name)
          say(`uses ${dependency}, which neither ${pkg.folder}/package.json nor the root declares`);
      }),
    );
  }
  for (const dependency of declared)
    if (!imported.has(dependency))
      found.push(`${pkg.folder}/package.json: declares ${dependency}, which no module of it imports`);

  const ours = declared.map(shortName).filter((short) => short !== undefined);
  const referenced = pkg.references.map((folder) => folder.replace(/^packages\//, ''));
  for (const short of ours)
    if (!referenced.includes(short)) found.push(`${pkg.folder}/tsconfig.json: lacks a reference to packages/${short}`);
  for (const short of referenced)
    if (!ours.includes(short)) found.push(`${pkg.folder}/tsconfig.json: references packages/${short} without depending on it`);
  return found;
}

/** Judges each link of a file; `judge` is asked about the package a bare specifier names. */
function eachLink(
  file: SourceFile,
  pkg: Package,
  workspace: Workspace,
  graph: Map<string, Edge[]> | undefined,
  judge: (dependency: string, say: (what: string) => void) => void,
): Violation[] {
  const found: Violation[] = [];
  const at = `${pkg.folder}/${file.path}`;
  const edges: Edge[] = [];
  for (const link of linksOf(file.text, file.path)) {
    const say = (what: string) => found.push(`${at}:${link.line} ${what}`);
    const { specifier, kind } = link;
    if (kind === 'computed') {
      say('imports a module by a name that cannot be read');
    } else if (kind === 'file' || specifier.startsWith('.')) {
      const target = posix.normalize(posix.join(posix.dirname(file.path), specifier));
      // Tests across packages also look at documents and at the examples, which are programs and export nothing.
      if (pkg.short === 'test' && target.startsWith('..') && !target.startsWith('../packages/')) continue;
      if (target.startsWith('..')) say(`reaches out of its package by "${specifier}"`);
      else if (kind !== 'file') edges.push({ to: `${pkg.folder}/${target.replace(/\.js$/, '.ts')}`, kind });
    } else if (specifier.startsWith('node:') || builtinModules.includes(specifier)) {
      if (!specifier.startsWith('node:')) say(`imports the built-in "${specifier}" without "node:"`);
      if (pkg.short === 'core' && graph && !NODE_IN_CORE.includes(file.path)) say(`brings "${specifier}" into core`);
      edges.push({ to: specifier, kind });
    } else {
      const dependency = packageOf(specifier);
      judge(dependency, say);
      const target = workspace.packages.find(({ manifest }) => manifest.name === dependency);
      if (!target) continue;
      const entry = target.manifest.exports?.[`.${specifier.slice(dependency.length)}`]?.[`${SCOPE}/source`];
      if (entry === undefined) say(`reaches for "${specifier}", which ${dependency} does not export`);
      else edges.push({ to: posix.join(target.folder, entry), kind });
    }
  }
  graph?.set(at, edges);
  return found;
}

/** The package a bare specifier names: `@scope/name/sub` → `@scope/name`. */
function packageOf(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

function shortName(dependency: string): string | undefined {
  return dependency.startsWith(`${SCOPE}/`) ? dependency.slice(SCOPE.length + 1) : undefined;
}

/** `@scope/core` itself must load where there is no Node: no built-in behind its root export. */
function nodeBehindCore(graph: ReadonlyMap<string, readonly Edge[]>): Violation[] {
  const root = 'packages/core/src/index.ts';
  const seen = new Set([root]);
  for (const file of seen) {
    for (const { to, kind } of graph.get(file) ?? []) {
      if (kind !== 'value') continue;
      if (to.startsWith('node:')) return [`${root}: loads ${file}, which needs "${to}"`];
      seen.add(to);
    }
  }
  return [];
}

/** One violation per circle of imports, those of types included: a circle of types is two ideas that are one. */
function cycles(graph: ReadonlyMap<string, readonly Edge[]>): Violation[] {
  const found: Violation[] = [];
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file);
    if (start >= 0) {
      found.push(`${file}: imports in a circle: ${[...path.slice(start), file].join(' → ')}`);
      return;
    }
    if (done.has(file)) return;
    for (const to of new Set((graph.get(file) ?? []).map((edge) => edge.to))) visit(to, [...path, file]);
    done.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
  return found;
}
