interface Entry {
  readonly payload: Record<string, unknown>;
  readonly expiresAt: number;
}

/** The storage interface `oidc-provider` asks for, one object for each of its models. */
export interface Adapter {
  upsert(id: string, payload: Record<string, unknown>, expiresIn?: number): Promise<void>;
  find(id: string): Promise<Record<string, unknown> | undefined>;
  findByUid(uid: string): Promise<Record<string, unknown> | undefined>;
  findByUserCode(): Promise<undefined>;
  consume(id: string): Promise<void>;
  destroy(id: string): Promise<void>;
  revokeByGrantId(grantId: string): Promise<void>;
}

/**
 * Keeps everything until it expires. (The provider's own store drops the oldest of a thousand entries: a busy chain of
 * exchanges would push grants and replay records out.) Sessions, codes and refresh tokens end with the process.
 */
export function createMemoryStore(): (model: string) => Adapter {
  const entries = new Map<string, Entry>();
  let sweepAt = 4096;

  const read = (key: string): Record<string, unknown> | undefined => {
    const entry = entries.get(key);
    if (entry === undefined || entry.expiresAt > Date.now()) return entry?.payload;
    entries.delete(key);
    return undefined;
  };
  const write = (key: string, entry: Entry) => {
    if (entries.size >= sweepAt) {
      for (const known of [...entries.keys()]) read(known);
      sweepAt = Math.max(4096, entries.size * 2);
    }
    entries.set(key, entry);
  };
  const search = (prefix: string, member: string, value: string) =>
    [...entries.keys()].filter((key) => key.startsWith(prefix) && entries.get(key)?.payload[member] === value);

  return (model) => ({
    async upsert(id, payload, expiresIn) {
      write(`${model}:${id}`, {
        payload,
        expiresAt: expiresIn === undefined ? Number.POSITIVE_INFINITY : Date.now() + expiresIn * 1000,
      });
    },
    find: async (id) => read(`${model}:${id}`),
    async findByUid(uid) {
      const [key] = search(`${model}:`, 'uid', uid);
      return key === undefined ? undefined : read(key);
    },
    findByUserCode: async () => undefined,
    async consume(id) {
      const payload = read(`${model}:${id}`);
      if (payload) payload.consumed = Math.floor(Date.now() / 1000);
    },
    async destroy(id) {
      entries.delete(`${model}:${id}`);
    },
    async revokeByGrantId(grantId) {
      for (const key of search(`${model}:`, 'grantId', grantId)) entries.delete(key);
    },
  });
}
