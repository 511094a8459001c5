import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { asEvent, eventData } from '../src/event-stream.js';

/** A stream that comes in these pieces. */
function streamOf(pieces: readonly Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(piece);
      controller.close();
    },
  });
}

async function read(pieces: readonly Uint8Array[]): Promise<string[]> {
  const found: string[] = [];
  for await (const data of eventData(streamOf(pieces))) found.push(data);
  return found;
}

const bytes = (text: string) => new TextEncoder().encode(text);

/** The same bytes, cut where the numbers say. */
function cut(whole: Uint8Array, at: readonly number[]): Uint8Array[] {
  const places = [...new Set(at.map((place) => place % (whole.length + 1)))].sort((a, b) => a - b);
  return [0, ...places].map((from, index) => whole.slice(from, places[index] ?? whole.length));
}

describe('an event stream', () => {
  test.each([
    ['one message', 'data: {"a":1}\n\n', ['{"a":1}']],
    ['a named message', 'event: message\ndata: x\n\n', ['x']],
    ['lines that end with CR LF', 'data: x\r\n\r\n', ['x']],
    ['lines that end with CR', 'data: x\r\r', ['x']],
    ['no space after the colon', 'data:x\n\n', ['x']],
    ['several lines of data', 'data: a\ndata: b\n\n', ['a\nb']],
    ['a comment, an id and a retry time', ': hi\nid: 4\nretry: 9\ndata: x\n\n', ['x']],
    ['an event of another kind', 'event: endpoint\ndata: x\n\ndata: y\n\n', ['y']],
    ['an event without data', 'event: message\n\n\n', []],
    ['an event that does not end', 'data: x\n', []],
    ['a field that is only like data', 'database: x\nDATA: y\n data: z\n\n', []],
    ['nothing', '', []],
  ])('with %s is read as its standard says', async (_, text, expected) => {
    expect(await read([bytes(text)])).toEqual(expected);
  });

  test('means the same, however its bytes were cut', async () => {
    const line = fc.constantFrom('data: {"näme":"Ö"}', 'data', 'event: x', 'event: message', ': c', 'id: 7', '', '');
    const end = fc.constantFrom('\n', '\r\n', '\r');
    const text = fc.array(fc.tuple(line, end), { maxLength: 12 }).map((lines) => lines.flat().join(''));
    await fc.assert(
      fc.asyncProperty(text, fc.array(fc.nat(400), { maxLength: 8 }), async (whole, at) => {
        expect(await read(cut(bytes(whole), at))).toEqual(await read([bytes(whole)]));
      }),
    );
  });

  test.each([
    ['CR | LF | LF', ['data: x\r', '\n', '\n', 'data: y\n\n'], ['x', 'y']],
    ['CR | nothing | LF | LF', ['data: x\r', '', '\n', '\ndata: y\n\n'], ['x', 'y']],
    ['CR | LF CR | LF', ['data: x\r', '\n\r', '\ndata: y\n\n'], ['x', 'y']],
  ])('loses no event where ends of lines are cut as %s', async (_, pieces, expected) => {
    expect(await read(pieces.map(bytes))).toEqual(expected);
  });

  test.each([
    ['a line', 'x'],
    ['an event', 'data: x\n'],
  ])('that never ends %s is given up before it fills the memory', async (_, piece) => {
    const much = bytes(piece.repeat((1 << 20) / piece.length));
    let pulled = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        pulled += 1;
        controller.enqueue(much);
      },
    });
    await expect(eventData(endless).next()).rejects.toThrow('too long');
    expect(pulled).toBeLessThan(40);
  });

  test('carries any message through', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.jsonValue(), { maxLength: 4 }), async (messages) => {
        const found = await read(messages.map((message) => asEvent(message)));
        expect(found.map((data) => JSON.parse(data))).toEqual(messages.map((message) => JSON.parse(JSON.stringify(message))));
      }),
    );
  });
});
