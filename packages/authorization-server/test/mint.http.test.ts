import { createSealVerifier } from '@hmcp/auth';
import { afterEach, describe, expect, it } from 'vitest';
import { loadLibrary } from '../src/authority.js';
import { createHandler } from '../src/handler.js';
import { loadKeys } from '../src/keys.js';
import { createLedger } from '../src/ledger.js';
import type { LaunchContext } from '../src/mint.js';
import { startWorld, type World } from './world.js';

/** A store with a fault: it loses the patient of every launch. */
class Forgetful extends Map<string, LaunchContext> {
  override set(grantId: string, { patient: _lost, ...context }: LaunchContext): this {
    return super.set(grantId, context);
  }
}

let world: World | undefined;
afterEach(() => world?.close());

describe('the mint guard in the server', () => {
  it('mints nothing when a fault elsewhere loses the patient of a launch', async () => {
    world = await startWorld();
    const { config, directory } = world.server;
    const records: unknown[] = [];
    const handle = createHandler(
      {
        library: await loadLibrary(),
        config,
        keys: await loadKeys(`${config.state}/authorization-server-keys.json`),
        directory,
        clients: new Map(config.clients.map((client) => [client.clientId, client])),
        resources: new Set(config.resources.map(({ resource }) => resource)),
        ledger: createLedger(Date.now),
        seals: createSealVerifier({ managers: [] }),
        contexts: new Forgetful(),
        exchanged: new WeakMap(),
        now: Date.now,
      },
      { append: async (record) => void records.push(record), close: async () => {} },
      () => {},
    );
    world.replaceHandler(handle);
    const answer = await world.launch({ patient: 0 });
    expect(answer).toMatchObject({ status: 400, body: { error: 'invalid_grant' } });
    expect(answer.body).not.toHaveProperty('access_token');
    expect(records).toMatchObject([{ event: 'token.refused', reason: 'a token with a patient scope needs a patient' }]);
    const none = await world.launch({ patient: undefined, parameters: { scope: 'user/*.rs' } });
    expect(none.status).toBe(200);
  });
});
