import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type SessionWorld, sessionWorld, TYPED } from './support/session-world.js';
import { ANN, BO, listResults, observation } from './support/world.js';

let bed: SessionWorld;
beforeEach(async () => {
  bed = await sessionWorld();
});
afterEach(() => bed.close());

describe('a session with a manager', () => {
  test('sends its seal, and takes the answer bound to session, epoch and patient', async () => {
    const session = await bed.open(ANN);
    expect(await session.call('labs', listResults, {})).toEqual({ results: [observation(ANN)] });
    expect(session).toMatchObject({ assurance: 'manager', epoch: 1 });
  });

  test('switches', async () => {
    const session = await bed.open(ANN);
    const report = await session.switchPatient({
      authorize: async () => bed.grant(BO),
      confirm: async (dialog) => {
        void dialog;
        return { ...TYPED[BO] };
      },
    });
    expect(report).toMatchObject({ result: 'committed', epoch: 2 });
    expect(await session.call('labs', listResults, {})).toEqual({ results: [observation(BO)] });
  });
});
