/** Why a text is not acceptable JSON. */
export type JsonFault = 'syntax' | 'duplicate_key' | 'too_deep';

/** Deepest nesting accepted in a request. */
export const MAX_DEPTH = 64;

/**
 * Parses JSON as `JSON.parse` does, but refuses what two readers may read differently: a key that stands twice in one
 * object (after unescaping), and nesting deeper than {@link MAX_DEPTH}.
 * @see protocol sections 2.7 and 3
 */
export function parseStrictJson(text: string): { value: unknown } | { fault: JsonFault } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { fault: 'syntax' };
  }
  const fault = scan(text);
  return fault ? { fault } : { value };
}

/** One pass over text that is already known to be valid JSON: keys of each open object, and the depth. */
function scan(text: string): JsonFault | undefined {
  const open: (Set<string> | undefined)[] = [];
  let keyExpected = false;
  for (let i = 0; i < text.length; i++) {
    switch (text[i]) {
      case '{':
        open.push(new Set());
        keyExpected = true;
        break;
      case '[':
        open.push(undefined);
        keyExpected = false;
        break;
      case '}':
      case ']':
        open.pop();
        keyExpected = false;
        break;
      case ',':
        keyExpected = open.at(-1) !== undefined;
        break;
      case '"': {
        const start = i;
        for (i++; text[i] !== '"'; i++) if (text[i] === '\\') i++;
        if (!keyExpected) break;
        keyExpected = false;
        const key: unknown = JSON.parse(text.slice(start, i + 1));
        const keys = open.at(-1);
        if (typeof key !== 'string' || keys?.has(key)) return 'duplicate_key';
        keys?.add(key);
        break;
      }
    }
    if (open.length > MAX_DEPTH) return 'too_deep';
  }
  return undefined;
}
