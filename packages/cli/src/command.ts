/** What a command may touch of its process; a test hands over its own. */
export interface CommandIo {
  readonly stdin: AsyncIterable<Uint8Array | string>;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Wall clock in ms. */
  readonly now: () => number;
}

/** A command: arguments after its name in, exit code (one of {@link EXIT}) out. */
export type Command = (argv: string[], io: CommandIo) => Promise<number>;

/** Exit codes of `hmcp`; a command's own `--help` says which it uses, and for what. */
export const EXIT = {
  /** Done, and nothing to remark. */
  ok: 0,
  /** Done, with something to look at: a warning, a refusal, nothing found. */
  notice: 1,
  /** Evidence of tampering in an audit log. */
  evidence: 2,
  /** The input cannot be read. */
  unreadable: 3,
  /** The command line is not understood (`EX_USAGE`). */
  usage: 64,
} as const;

/** A command line that is not understood; the message is a sentence for the person who typed it. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Where a command keeps its keys, databases and logs when `--state` is not given: `HMCP_STATE`, else `.hmcp`. */
export function stateFolder(given: string | undefined, io: CommandIo): string {
  return given ?? io.env.HMCP_STATE ?? '.hmcp';
}
