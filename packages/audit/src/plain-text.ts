/** Most text by far. */
const PLAIN = /^[\x20-\x7e]*$/;

/**
 * One line of printable text: control, format (bidirectional marks, zero-width, byte-order mark) and separator
 * characters and lone surrogates are removed, and the rest is cut at `max` UTF-16 units, so that no caller can forge a
 * line, reorder what a reader sees or fill a disk.
 * @param max UTF-16 units. @default 256
 */
export function plainText(text: string, max = 256): string {
  const cut = text.slice(0, max);
  return PLAIN.test(cut) ? cut : cut.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, '');
}
