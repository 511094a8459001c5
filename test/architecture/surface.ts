import { hmcp } from '@hmcp/cli';
import { AUDIT_EVENTS, CHECKS, ERRORS, META } from '@hmcp/core';
import { exportsOf } from './declarations.js';
import { entriesOf, readText, type Workspace } from './workspace.js';

/** Exported shapes whose member names are pinned too: what people set. None of them may turn a check off. */
const SETTINGS = /(Options|Env|Config|Input|Operation|Peer|Issuer|Registration|Transition|Deployment)$/;

/** Everything somebody outside may rely on: names, codes, keys, commands. */
export interface Surface {
  /** By import specifier. */
  readonly exports: Readonly<Record<string, { readonly values: readonly string[]; readonly types: readonly string[] }>>;
  /** Member names by import specifier and shape; `outer.inner` when nested. */
  readonly settings: Readonly<Record<string, readonly string[]>>;
  /** Name and retry rule by code. */
  readonly errors: Readonly<Record<string, string>>;
  readonly checks: readonly string[];
  readonly meta: Readonly<Record<string, string>>;
  readonly auditEvents: readonly string[];
  /** Options by command of `hmcp`. */
  readonly commands: Readonly<Record<string, readonly string[]>>;
}

/** Reads the surface of a built workspace. */
export async function surfaceOf(workspace: Workspace): Promise<Surface> {
  const exported = Object.fromEntries(
    workspace.packages.flatMap(entriesOf).map(({ name, types }) => [name, exportsOf(types, readText)]),
  );
  const named = (kind: string) => (names: ReturnType<typeof exportsOf>) =>
    names
      .filter((entry) => entry.kind === kind)
      .map(({ name }) => name)
      .sort();
  const settings = Object.entries(exported).flatMap(([from, names]) =>
    names
      .filter(({ name, members }) => SETTINGS.test(name) && members.length > 0)
      .map(({ name, members }) => [`${from} ${name}`, [...members].sort()] as const),
  );
  return {
    exports: mapValues(exported, (names) => ({ values: named('value')(names), types: named('type')(names) })),
    settings: Object.fromEntries(settings.sort(([a], [b]) => (a < b ? -1 : 1))),
    errors: mapValues(ERRORS, ({ name, retry }) => `${name}, retry ${retry}`),
    checks: CHECKS,
    meta: META,
    auditEvents: AUDIT_EVENTS,
    commands: await commands(),
  };
}

/** Commands of `hmcp` with the options that their help names. */
async function commands(): Promise<Record<string, string[]>> {
  const names = [...(await help([])).matchAll(/^ {2}hmcp ([a-z]+) {2}/gm)].map(([, name]) => String(name));
  const entries = names.map(async (name) => {
    const options = (await help([name])).match(/--[a-z][a-z-]*/g) ?? [];
    return [name, [...new Set(options)].sort()] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}

async function help(command: readonly string[]): Promise<string> {
  let text = '';
  const stdout = { write: (chunk: string) => (text += chunk) };
  const stdin = (async function* () {})();
  await hmcp([...command, '--help'], { stdin, stdout, stderr: stdout, env: {}, now: () => 0 });
  return text;
}

function mapValues<A, B>(record: Readonly<Record<string | number, A>>, change: (value: A) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value)]));
}
