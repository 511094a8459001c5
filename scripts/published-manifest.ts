/** A `package.json`, as far as packing looks at it. */
export interface SourceManifest {
  readonly name: string;
  readonly version: string;
  readonly exports?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly files?: readonly string[];
  readonly bin?: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}

/** What the root manifest says for every package. */
export interface RootManifest {
  readonly version: string;
  readonly config: { readonly scope: string };
  /** Where the sources are published; absent as long as they are not. */
  readonly repository?: { readonly type: string; readonly url: string };
}

/** Fields that mean something in the repository only. */
const OURS_ALONE = new Set(['scripts', 'devDependencies']);

/**
 * The manifest as it stands in a tarball: without what only works in the repository, above all the condition `<scope>/source`,
 * by which tests run on TypeScript; and with the place of the sources, where the root names one.
 * @param folder of the package in the repository, `packages/core`
 */
export function publishedManifest(manifest: SourceManifest, root: RootManifest, folder: string): SourceManifest {
  const source = `${root.config.scope}/source`;
  const exports = Object.entries(manifest.exports ?? {}).map(([subpath, conditions]) => [
    subpath,
    Object.fromEntries(Object.entries(conditions).filter(([condition]) => condition !== source)),
  ]);
  const kept = Object.entries(manifest).filter(([field]) => !OURS_ALONE.has(field));
  return {
    ...(Object.fromEntries(kept) as unknown as SourceManifest),
    exports: Object.fromEntries(exports),
    ...(root.repository ? { repository: { ...root.repository, directory: folder } } : {}),
  };
}
