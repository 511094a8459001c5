import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type OrderBook, type OrderContext, openOrderBook } from '../src/index.js';

const session = { sid: 's1', epoch: 4 };
const a: OrderContext = { pk: 'pk-a', intent: 'i1', session };
const wanted = { kind: 'service', text: 'Lipid panel' } as const;

let folder: string;
let file: string;
let count: number;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hmcp-orders-'));
  file = join(folder, 'state', 'orders.jsonl');
  count = 0;
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const open = () => openOrderBook({ file, now: () => 1000, id: () => String(++count) });
const used = async <T>(work: (book: OrderBook) => Promise<T>): Promise<T> => {
  const book = await open();
  try {
    return await work(book);
  } finally {
    await book.close();
  }
};

describe('an order book', () => {
  it('keeps drafts, what was saved and what was signed over a restart', async () => {
    const [first, second] = await used(async (book) => [
      await book.draft(wanted, a),
      await book.draft({ kind: 'medication', text: 'Metformin 500 mg' }, { ...a, intent: 'i2' }),
    ]);
    expect([first.state, second.state]).toEqual(['unsaved', 'unsaved']);
    await used(async (book) => {
      expect(book.unsaved(session)).toEqual([
        { id: first.draft, savable: true },
        { id: second.draft, savable: true },
      ]);
      expect(await book.save(session, [first.draft])).toEqual([first.draft]);
      await book.sign(first.draft, { ...a, intent: 'i3' });
    });
    await used(async (book) => {
      expect(book.drafts(a)).toMatchObject([{ draft: second.draft, state: 'unsaved' }]);
      expect(book.drafts({ pk: 'pk-a', session: { sid: 's1', epoch: 5 } })).toEqual([]);
    });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  it('makes one draft and one signature for one act, however often and at once it asks', async () => {
    await used(async (book) => {
      const made = await Promise.all([1, 2, 3].map(() => book.draft(wanted, a)));
      expect(new Set(made.map(({ draft }) => draft)).size).toBe(1);
      const act = { ...a, intent: 'i2' };
      const signed = await Promise.all([1, 2, 3].map(() => book.sign(made[0]?.draft ?? '', act)));
      expect(new Set(signed.map(({ order }) => order)).size).toBe(1);
      await expect(book.sign(made[0]?.draft ?? '', { ...a, intent: 'i3' })).rejects.toMatchObject({ fault: 'signed' });
    });
    expect((await readFile(file, 'utf8')).trim().split('\n')).toHaveLength(2);
  });

  it('refuses to sign for another patient, and writes nothing', async () => {
    await used(async (book) => {
      const { draft } = await book.draft(wanted, a);
      await book.save(session, [draft]);
      const before = await readFile(file, 'utf8');
      const b = { ...a, pk: 'pk-b', intent: 'i2', session: { sid: 's1', epoch: 5 } };
      await expect(book.sign(draft, b)).rejects.toMatchObject({ fault: 'unknown' });
      expect(() => book.signedBy(draft, b)).toThrow(expect.objectContaining({ fault: 'unknown' }));
      expect(await readFile(file, 'utf8')).toBe(before);
    });
  });

  it('saves only what is unsaved in that session', async () => {
    await used(async (book) => {
      const { draft } = await book.draft(wanted, a);
      expect(await book.save({ sid: 's1', epoch: 5 }, [draft])).toEqual([]);
      expect(await book.save({ sid: 's2', epoch: 4 }, [draft, 'draft_x', ''])).toEqual([]);
      expect(await book.save(session, [draft])).toEqual([draft]);
      expect(await book.save(session, [draft])).toEqual([draft]);
      expect(book.unsaved(session)).toEqual([]);
    });
  });

  it('cuts off a last line that was torn', async () => {
    const { draft } = await used((book) => book.draft(wanted, a));
    await appendFile(file, '{"event":"signed","draft":"');
    await used(async (book) => expect(book.drafts(a)).toMatchObject([{ draft, state: 'unsaved' }]));
    await used(async (book) => void (await book.sign(draft, { ...a, intent: 'i2' })));
    await used(async (book) => expect(book.drafts(a)).toEqual([]));
  });

  it.each([
    ['no JSON', 'nonsense\n'],
    ['an unknown event', '{"event":"moved","draft":"draft_1","pk":"pk-b","at":1}\n'],
    [
      'a draft without a patient',
      '{"event":"drafted","draft":"draft_1","pk":"","intent":"i","kind":"service","text":"x","at":1}\n',
    ],
    ['a member nobody knows', '{"event":"saved","draft":"draft_1","at":1,"pk":"pk-b"}\n'],
  ])('does not open a file that holds %s', async (_name, text) => {
    await used(async () => {});
    await writeFile(file, text);
    await expect(open()).rejects.toThrow(/^line 1 of the order book is no entry$/);
    await writeFile(file, '');
    await used(async () => {});
  });

  it('has one writer', async () => {
    await used(async () => {
      await expect(open()).rejects.toMatchObject({ kind: 'locked' });
    });
  });
});
