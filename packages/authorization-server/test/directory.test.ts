import { describe, expect, it } from 'vitest';
import { createDirectory } from '../src/index.js';
import { people } from './world.js';

const account = (username: string, patients: '*' | string[]) => ({
  username,
  password: `pw-${username}`,
  name: username,
  fhirUser: 'Practitioner/p',
  patients,
});
const make = () =>
  createDirectory({ people: [...people], accounts: [account('all', '*'), account('some', ['cy', 'ann']), account('none', [])] });

describe('the directory', () => {
  it('signs in by name and password together', () => {
    expect(make().signIn('all', 'pw-all')?.username).toBe('all');
  });

  it.each([
    ['all', 'pw-some'],
    ['all', ''],
    ['all', 'PW-ALL'],
    ['nobody', ''],
    ['nobody', 'pw-all'],
    ['', ''],
    ['__proto__', ''],
  ])('does not sign in %j with %j', (username, password) => {
    expect(make().signIn(username, password)).toBeUndefined();
  });

  it("lists an account's own patients, by name and date of birth", () => {
    const directory = make();
    const names = (username: string) => directory.patientsOf(username).map((person) => person.id);
    expect(names('all')).toEqual(['ann', 'bo', 'cy']);
    expect(names('some')).toEqual(['ann', 'cy']);
    expect(names('none')).toEqual([]);
    expect(names('nobody')).toEqual([]);
  });

  it('opens only patients of the account, and none once withdrawn', () => {
    const directory = make();
    expect(directory.patient('some', 'ann')?.name).toBe('Ann Hollis');
    expect(directory.patient('some', 'bo')).toBeUndefined();
    expect(directory.patient('all', 'Ann')).toBeUndefined();
    directory.withdraw('all', 'ann');
    expect(directory.patient('all', 'ann')).toBeUndefined();
    expect(directory.patientsOf('all').map((person) => person.id)).toEqual(['bo', 'cy']);
    expect(directory.patient('some', 'ann')).toBeDefined();
  });
});
