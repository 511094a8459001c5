/** How an exchange on the wire ended, as far as its bytes tell. */
export interface WireAnswer {
  /** A JSON-RPC code, or an HTTP status of at least 400. */
  readonly code?: number | undefined;
  /** The check that refused. */
  readonly check?: string | undefined;
  /** A tool answered that it failed. */
  readonly failed?: true | undefined;
}

/** Reads an answer: JSON, or the events of a stream; a tool's own error is an answer. */
export function readAnswer(status: number, text: string): WireAnswer {
  const events = text.split('\n').flatMap((line) => (line.startsWith('data:') ? [line.slice(5)] : []));
  for (const part of [text, ...events]) {
    const { error, result } = (parsed(part) ?? {}) as Message;
    if (result?.isError === true) return { failed: true };
    if (typeof error?.code !== 'number') continue;
    const { check } = error.data ?? {};
    return { code: error.code, ...(typeof check === 'string' ? { check } : {}) };
  }
  return status >= 400 ? { code: status } : {};
}

interface Message {
  readonly error?: { readonly code?: unknown; readonly data?: { readonly check?: unknown } };
  readonly result?: { readonly isError?: unknown };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
