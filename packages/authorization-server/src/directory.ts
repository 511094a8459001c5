import { createHash, timingSafeEqual } from 'node:crypto';
import type { Account, AuthorizationServerConfig, Person } from './config.js';

/**
 * Which account may open which patient. Asked when a patient is picked, again at each token, refresh and exchange:
 * an access withdrawn in between takes effect at once. "Who may see whom" is decided here and nowhere in a request.
 */
export interface Directory {
  /** The account with this name and password. */
  signIn(username: string, password: string): Account | undefined;
  find(username: string): Account | undefined;
  /** The people this account may open, by name and then date of birth. */
  patientsOf(username: string): readonly Person[];
  /** The person, when this account may open that record. */
  patient(username: string, id: string): Person | undefined;
  /** Takes the account's access to this patient away. */
  withdraw(username: string, id: string): void;
}

/** A {@link Directory} of the accounts and people of a configuration. */
export function createDirectory({ accounts, people }: Pick<AuthorizationServerConfig, 'accounts' | 'people'>): Directory {
  const byUsername = new Map(accounts.map((account) => [account.username, account]));
  const sorted = [...people].sort(
    (a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }) || a.birthDate.localeCompare(b.birthDate),
  );
  const withdrawn = new Set<string>();
  const key = (username: string, id: string) => JSON.stringify([username, id]);
  const mayOpen = (account: Account, id: string) =>
    (account.patients === '*' || account.patients.includes(id)) && !withdrawn.has(key(account.username, id));

  return {
    signIn(username, password) {
      const account = byUsername.get(username);
      const right = sameText(password, account?.password ?? '');
      return account && right ? account : undefined;
    },
    find: (username) => byUsername.get(username),
    patientsOf(username) {
      const account = byUsername.get(username);
      return account ? sorted.filter((person) => mayOpen(account, person.id)) : [];
    },
    patient(username, id) {
      const account = byUsername.get(username);
      return account && mayOpen(account, id) ? sorted.find((person) => person.id === id) : undefined;
    },
    withdraw(username, id) {
      withdrawn.add(key(username, id));
    },
  };
}

function sameText(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
