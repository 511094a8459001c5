import { posix } from 'node:path';
import type { RootManifest, SourceManifest } from './published-manifest.js';

/** What a tarball holds: paths inside the package, and the text of each. */
export type Contents = ReadonlyMap<string, string>;

/** What every manifest must say to whoever finds the package. */
const SAID = ['description', 'keywords', 'license', 'engines', 'exports', 'sideEffects', 'files'] as const;

/**
 * What is wrong with a tarball beyond what `publint` and `attw` look at, in sentences; none when all is well.
 * @param packed names of all packages there are tarballs of
 */
export function tarballFaults(contents: Contents, { version, config }: RootManifest, packed: readonly string[]): string[] {
  const text = contents.get('package.json');
  if (text === undefined) return ['there is no package.json'];
  const manifest = JSON.parse(text) as SourceManifest & { readonly dependencies?: Readonly<Record<string, string>> };
  const faults: string[] = [];
  for (const file of ['README.md', 'LICENSE']) if (!contents.get(file)?.trim()) faults.push(`there is no ${file}`);
  for (const field of SAID) if (manifest[field] === undefined) faults.push(`package.json does not say "${field}"`);
  for (const field of ['scripts', 'devDependencies'])
    if (manifest[field] !== undefined) faults.push(`package.json has "${field}", which only work in the repository`);
  if (text.includes(`${config.scope}/source`)) faults.push(`package.json has the condition "${config.scope}/source"`);
  if (manifest.version !== version) faults.push(`the version is ${manifest.version}, not ${version}`);
  for (const [name, range] of Object.entries(manifest.dependencies ?? {})) {
    if (!name.startsWith(`${config.scope}/`)) continue;
    if (!packed.includes(name)) faults.push(`${name} is wanted, and there is no tarball of it`);
    if (range !== version) faults.push(`${name} is wanted as "${range}", not "${version}"`);
  }
  for (const target of Object.values(manifest.bin ?? {}))
    if (!contents.get(posix.normalize(target))?.startsWith('#!/usr/bin/env node\n'))
      faults.push(`the command ${target} is no program`);
  for (const path of contents.keys())
    if (/(^|\/)(test|tests)\/|\.test\.|\.tsbuildinfo$/.test(path)) faults.push(`${path} is no part of the program`);
  for (const [path, map] of contents) if (path.endsWith('.map')) faults.push(...missingSources(path, map, contents));
  return faults;
}

function missingSources(path: string, map: string, contents: Contents): string[] {
  const { sources } = JSON.parse(map) as { sources: string[] };
  return sources
    .map((source) => posix.normalize(posix.join(posix.dirname(path), source)))
    .filter((source) => !contents.has(source))
    .map((source) => `${path} points to ${source}, which is not there`);
}
