import assert from 'node:assert/strict';
import type { AccessPolicy, AccessQuestion } from '@hmcp/auth';
import { declareRules, type Rule } from './rule.js';

/** A policy with questions whose answers are known, for one test. */
export interface AccessPolicyBench {
  readonly policy: AccessPolicy;
  /** It allows these: one at least. */
  readonly allowed: readonly AccessQuestion[];
  /** It denies these: one at least, best one that differs from an allowed one in the patient alone. */
  readonly denied: readonly AccessQuestion[];
  /** From now on whatever the policy asks (its database, its service) does not answer. */
  fail(): Promise<void>;
  close(): Promise<void>;
}

/** Each makes the question about another person, or by another one. A subject is its issuer's, a patient its server's and tenant's. */
const OTHERWISE: readonly [string, (question: AccessQuestion) => AccessQuestion][] = [
  ['issuer', (question) => ({ ...question, issuer: 'https://elsewhere.example' })],
  ['subject', (question) => ({ ...question, subject: 'nobody-known' })],
  ['fhirServer', (question) => ({ ...question, fhirServer: 'https://elsewhere.example/r4' })],
  ['tenant', (question) => ({ ...question, tenant: 'elsewhere' })],
  ['patient', (question) => ({ ...question, patient: 'nobody-known' })],
];

/** What no subject and no patient is called. */
const HOSTILE: readonly string[] = [
  '',
  ' ',
  '*',
  '%',
  '_',
  '.*',
  "' OR '1'='1",
  '__proto__',
  'constructor',
  'toString',
  '\u0000',
];

/** Spellings that a careless comparison takes for the same; ids are compared byte by byte. */
const RESPELLED: readonly ((id: string) => string)[] = [
  (id) => ` ${id}`,
  (id) => `${id} `,
  (id) => `${id}\u0000`,
  (id) => `Patient/${id}`,
  (id) => id.toUpperCase(),
  (id) => id.toLowerCase(),
  (id) => id.slice(0, -1),
];

async function answerTo({ policy }: AccessPolicyBench, question: AccessQuestion): Promise<unknown> {
  return policy.decide(question).catch(() => 'could not decide');
}

async function neverAllows(bench: AccessPolicyBench, question: AccessQuestion, what: string): Promise<void> {
  const answer = await answerTo(bench, Object.freeze(question));
  assert.ok(answer === 'deny' || answer === 'could not decide', `${what} was not denied`);
}

/** What an access policy must do. @see protocol sections 2.1 and 7 */
export const ACCESS_POLICY_RULES: readonly Rule<AccessPolicyBench>[] = [
  {
    claim: 'answers with the very words "allow" and "deny"',
    async check(bench) {
      assert.ok(
        bench.allowed.length > 0 && bench.denied.length > 0,
        'a question that is allowed and one that is denied are needed',
      );
      for (const question of bench.allowed) assert.equal(await bench.policy.decide(Object.freeze({ ...question })), 'allow');
      for (const question of bench.denied) assert.equal(await bench.policy.decide(Object.freeze({ ...question })), 'deny');
    },
  },
  {
    claim: 'answers the same when it is asked again, and each its own when it is asked much at once',
    async check(bench) {
      const questions = Array.from({ length: 20 }, () => [...bench.allowed, ...bench.denied]).flat();
      const answers = await Promise.all(questions.map((question) => answerTo(bench, question)));
      assert.deepEqual(
        answers,
        questions.map((question) => (bench.allowed.includes(question) ? 'allow' : 'deny')),
      );
    },
  },
  {
    claim:
      'allows nothing to somebody else, and nothing about somebody else: each of issuer, subject, server, tenant and patient counts',
    async check(bench) {
      for (const question of bench.allowed)
        for (const [member, change] of OTHERWISE)
          await neverAllows(bench, change(question), `what is allowed, but with another "${member}",`);
    },
  },
  {
    claim: 'allows nothing for a subject or a patient that is no id',
    async check(bench) {
      for (const question of bench.allowed)
        for (const value of HOSTILE) {
          await neverAllows(bench, { ...question, patient: value }, `the patient ${JSON.stringify(value)}`);
          await neverAllows(bench, { ...question, subject: value }, `the subject ${JSON.stringify(value)}`);
        }
    },
  },
  {
    claim: 'allows nothing for another spelling of a subject or a patient',
    async check(bench) {
      const { allowed } = bench;
      for (const question of allowed)
        for (const member of ['patient', 'subject'] as const)
          for (const respell of RESPELLED) {
            const spelled = { ...question, [member]: respell(question[member]) };
            if (allowed.some((one) => one[member] === spelled[member])) continue;
            await neverAllows(bench, spelled, `the ${member} in another spelling`);
          }
    },
  },
  {
    claim: 'allows nothing while what it asks does not answer, not even what it allowed before',
    async check(bench) {
      for (const question of bench.allowed) assert.equal(await bench.policy.decide(question), 'allow');
      await bench.fail();
      for (const question of [...bench.allowed, ...bench.denied])
        await neverAllows(bench, { ...question }, 'a question that could not be decided');
    },
  },
];

/**
 * Declares the tests every {@link AccessPolicy} must pass; call it at the top of a vitest file.
 * @param open makes the policy with what it asks, for each test another
 * @see protocol sections 2.1 and 7
 */
export function accessPolicyContract(name: string, open: () => Promise<AccessPolicyBench>): void {
  declareRules(name, ACCESS_POLICY_RULES, open);
}
