/** Characters one event, or one JSON answer, may have: far more than any honest answer, far less than the memory of a process. */
export const MOST_CHARACTERS = 16 << 20;

/**
 * The `data` of each message event of a stream of server-sent events. Comments, ids, retry times and other kinds of events are
 * left out: a stream that is checked here is never resumed.
 * @throws {Error} for an event of more than {@link MOST_CHARACTERS}
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export async function* eventData(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let data: string[] = [];
  let kind = '';
  let held = 0;
  for await (const line of lines(body)) {
    held += line.length;
    if (held > MOST_CHARACTERS) throw new Error('an event is too long');
    if (line === '') {
      held = 0;
      if (data.length > 0 && (kind === '' || kind === 'message')) yield data.join('\n');
      data = [];
      kind = '';
      continue;
    }
    const [field, value] = fieldOf(line);
    if (field === 'data') data.push(value);
    else if (field === 'event') kind = value;
  }
}

/** One message as an event. JSON has no bare line breaks, so it is one line. */
export function asEvent(message: unknown): Uint8Array {
  return new TextEncoder().encode(`event: message\ndata: ${JSON.stringify(message)}\n\n`);
}

function fieldOf(line: string): readonly [string, string] {
  const colon = line.indexOf(':');
  if (colon < 0) return [line, ''];
  const value = line.slice(colon + 1);
  return [line.slice(0, colon), value.startsWith(' ') ? value.slice(1) : value];
}

/** Lines end with LF, CR or both; what stands after the last end is no line. */
async function* lines(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let rest = '';
  let afterReturn = false;
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      const piece = decoder.decode(read.value, { stream: true });
      // A CR at the end of one piece and the LF at the start of the next are one end of a line.
      const text = afterReturn && piece.startsWith('\n') ? piece.slice(1) : piece;
      if (piece !== '') afterReturn = piece.endsWith('\r');
      const parts = text.split(/\r\n|\n|\r/);
      const last = parts.pop() ?? '';
      for (const part of parts) {
        yield rest + part;
        rest = '';
      }
      rest += last;
      if (rest.length > MOST_CHARACTERS) throw new Error('a line is too long');
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
