import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startWorld, type World } from './world.js';

let world: World;
beforeAll(async () => {
  world = await startWorld();
});
afterAll(() => world.close());

describe('launch', () => {
  it('gives the patient who was picked, in the token and beside it', async () => {
    const answer = await world.launch({ patient: { name: 'Bo Hollis', birthDate: '1961-04-23' } });
    console.log(answer.body, answer.claims, world.records);
    expect(answer.status).toBe(200);
  });
});
