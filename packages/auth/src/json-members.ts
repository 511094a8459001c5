/**
 * True when some object of this JSON text names a member twice. `JSON.parse` silently keeps the last one, another parser
 * may keep the first: two readers of one signed token would then see two patients (RFC 7519 section 4).
 * @param text valid JSON; the caller has parsed it already
 */
export function hasDuplicateMembers(text: string): boolean {
  const open: (Set<string> | undefined)[] = [];
  const token = /"(?:[^"\\]|\\.)*"(\s*:)?|[{}[\]]/g;
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    const [found, colon] = match;
    if (found === '{') open.push(new Set());
    else if (found === '[') open.push(undefined);
    else if (found === '}' || found === ']') open.pop();
    else if (colon !== undefined) {
      const name: string = JSON.parse(found.slice(0, found.length - colon.length));
      const members = open.at(-1);
      if (members?.has(name)) return true;
      members?.add(name);
    }
  }
  return false;
}
