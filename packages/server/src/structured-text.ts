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

/** A checked result with its text, in the same turn of the event loop as its check. */
export function withText(result: Json): Json {
  const { content, structuredContent } = result;
  const awaits = typeof structuredContent === 'object' && structuredContent !== null && awaiting.has(structuredContent);
  if (!awaits || !Array.isArray(content) || content.length > 0) return result;
  return { ...result, content: [{ type: 'text', text: JSON.stringify(structuredContent) }] };
}
