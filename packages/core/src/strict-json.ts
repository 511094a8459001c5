/** What {@link parseStrictJson} found. */
export type StrictJson =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly reason: 'not JSON' | 'duplicate key' };

/**
 * Parses JSON and refuses an object that names one member twice: two readers may pick different ones, so such a text could
 * be checked for one patient and shown for another. Linear in the length of the text; never throws.
 * @see protocol section 7
 */
export function parseStrictJson(text: string): StrictJson {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { ok: false, reason: 'not JSON' };
  }
  return hasDuplicateKey(text) ? { ok: false, reason: 'duplicate key' } : { ok: true, value };
}

/** Expects text that JSON.parse accepted: outside strings only structure is left to look at. */
function hasDuplicateKey(text: string): boolean {
  const open: (Set<string> | undefined)[] = []; // one entry a nesting level; undefined for an array
  for (let i = 0; i < text.length; i += 1) {
    const char = text[i];
    if (char === '{') open.push(new Set());
    else if (char === '[') open.push(undefined);
    else if (char === '}' || char === ']') open.pop();
    else if (char === '"') {
      const end = endOfString(text, i);
      const keys = open.at(-1);
      if (keys && isKey(text, end)) {
        const key = memberName(text.slice(i, end));
        if (keys.has(key)) return true;
        keys.add(key);
      }
      i = end - 1;
    }
  }
  return false;
}

/** Index after the closing quote of the string that opens at `start`. */
function endOfString(text: string, start: number): number {
  let i = start + 1;
  while (i < text.length && text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
  return i + 1;
}

function isKey(text: string, end: number): boolean {
  let i = end;
  while (i < text.length && ' \t\r\n'.includes(text.charAt(i))) i += 1;
  return text[i] === ':';
}

/** The name behind its quotes; written with escapes it is still the same name. */
function memberName(quoted: string): string {
  return quoted.includes('\\') ? String(JSON.parse(quoted)) : quoted.slice(1, -1);
}
