import type { Json } from './message.js';

const awaiting = new WeakSet<object>();

/**
 * The result of a tool whose text is the JSON of its structured content, for clients that read text only. The guard writes the
 * text ({@link withText}) when it has looked at the content: so it is what was checked, and is made once.
 */
export function repeatedInText(structuredContent: Record<string, unknown>) {
  awaiting.add(structuredContent);
  return { content: [], structuredContent };
}

/** A result, and the JSON of its structured content where that was made. */
export interface Written {
  readonly result: Json;
  /** As it was when it was checked, whatever its handler does to the object afterwards. */
  readonly structured: string | undefined;
}

/** A checked result with its text, in the same turn of the event loop as its check. */
export function withText(result: Json): Written {
  const { content, structuredContent } = result;
  const awaits = typeof structuredContent === 'object' && structuredContent !== null && awaiting.has(structuredContent);
  if (!awaits || !Array.isArray(content) || content.length > 0) return { result, structured: undefined };
  const structured = JSON.stringify(structuredContent);
  return { result: { ...result, content: [{ type: 'text', text: structured }] }, structured };
}

/** The message that answers a request, as JSON, with its structured content as it was checked. */
export function renderAnswer(id: string | number, result: Json, structured: string): string {
  const { structuredContent: _, ...rest } = result;
  const message = JSON.stringify({ jsonrpc: '2.0', id, result: { ...rest, structuredContent: null } });
  return `${message.slice(0, -'null}}'.length)}${structured}}}`;
}
