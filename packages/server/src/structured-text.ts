import type { RequestScope } from '@hmcp/core/request-scope';
import { isJsonObject, type Json } from './message.js';

/** Stands where the text will be. Nobody else can say it, and the SDK may copy everything else of a result. */
const AWAITED = `text:${crypto.randomUUID()}`;

/** What the handler of a patient tool returned, itself. */
const answers = new WeakMap<RequestScope, object>();

/**
 * The result of a tool whose text is the JSON of its structured content, for clients that read text only. The guard writes the
 * text ({@link withText}) when it has looked at the content: so it is what was checked, and is made once.
 */
export function repeatedInText(structuredContent: Record<string, unknown>, scope: RequestScope) {
  answers.set(scope, structuredContent);
  return { content: [{ type: 'text' as const, text: AWAITED }], structuredContent };
}

/**
 * True when the result holds an object of another request, or did before something on its way out copied it: a copy hides whose
 * object it was.
 */
export function mixesRequests(result: Json, scope: RequestScope): boolean {
  if (scope.holdsForeign(result)) return true;
  const answer = answers.get(scope);
  return answer !== undefined && answer !== result.structuredContent && scope.holdsForeign(answer);
}

/** The result without its place for the text, or `undefined` when no text is awaited. */
export function awaitingText(result: Json): Json | undefined {
  const [first, ...others]: readonly unknown[] = Array.isArray(result.content) ? result.content : [];
  const awaits = others.length === 0 && isJsonObject(first) && first.text === AWAITED;
  return awaits ? { ...result, content: [] } : undefined;
}

/** A result, and the JSON of its structured content as it was when it was checked, whatever becomes of the object. */
export interface Written {
  readonly result: Json;
  readonly structured: string;
}

/** What {@link awaitingText} gave, with its text: to be called in the same turn of the event loop as the check. */
export function withText(result: Json): Written {
  const structured = JSON.stringify(result.structuredContent);
  return { result: { ...result, content: [{ type: 'text', text: structured }] }, structured };
}

/** The message that answers a request, as JSON, with its structured content as it was checked. */
export function renderAnswer(id: string | number, result: Json, structured: string): string {
  const { structuredContent: _, ...rest } = result;
  const message = JSON.stringify({ jsonrpc: '2.0', id, result: { ...rest, structuredContent: null } });
  return `${message.slice(0, -'null}}'.length)}${structured}}}`;
}
