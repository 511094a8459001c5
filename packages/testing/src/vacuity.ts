import type { TestPerson } from './people.js';

/** One answer of an agent that was let through. */
export interface Told {
  /** Agent and operation, as in `labs list-results`. */
  readonly tool: string;
  readonly person: TestPerson;
  /** Beside a real call, about the double of its patient. */
  readonly aside: boolean;
  /** It held a value that only its patient has and that the call itself did not hold. */
  readonly telling: boolean;
}

/** A tool of which nothing could have been noticed, had it got into work for another. */
export interface Vacuity {
  readonly tool: string;
  /** Whom its answers were about; a double, where the answers about people themselves told them. */
  readonly person: TestPerson;
}

/**
 * Finds the tools whose answers about somebody never held one value of theirs: what is looked for is values, so that no other value in
 * their place would prove anything. A double is looked at where the answers about the people themselves are telling.
 */
export function vacuitiesOf(answers: readonly Told[]): Vacuity[] {
  const tools = [...new Set(answers.filter(({ aside }) => !aside).map(({ tool }) => tool))];
  return tools.flatMap((tool) => {
    const of = answers.filter((answer) => answer.tool === tool);
    const real = silent(of.filter(({ aside }) => !aside));
    return real.length > 0 ? real : silent(of.filter(({ aside }) => aside));
  });
}

function silent(answers: readonly Told[]): Vacuity[] {
  const heard = new Set(answers.filter(({ telling }) => telling).map(({ person }) => person));
  const mute = new Map(answers.filter(({ person }) => !heard.has(person)).map((answer) => [answer.person, answer]));
  return [...mute.values()].map(({ tool, person }) => ({ tool, person }));
}
