import { isDeepStrictEqual } from 'node:util';
import { explain, HmcpError } from '@hmcp/core';

/** What an example expects of its own run; a failed expectation is told at the end, and makes the exit code 1. */
export class Checks {
  readonly #failures: string[] = [];
  #made = 0;

  /** Deep equality. */
  is(what: string, found: unknown, expected: unknown): void {
    this.#made += 1;
    if (isDeepStrictEqual(found, expected)) return;
    this.#failures.push(`${what}: ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`);
  }

  /** The refusal a call ends with, explained on standard output; `undefined` when it is served or ends otherwise. */
  async refusal(call: Promise<unknown>): Promise<HmcpError | undefined> {
    try {
      await call;
      return undefined;
    } catch (error) {
      process.stdout.write(`${explain(error)}\n`);
      return HmcpError.from(error);
    }
  }

  /** Expects a call to be refused with this code, by this check. */
  async refused(what: string, call: Promise<unknown>, code: number, check: string): Promise<void> {
    const refusal = await this.refusal(call);
    this.is(what, [refusal?.code, refusal?.check], [code, check]);
  }

  /** Tells what did not hold, and sets the exit code. A run that checked nothing fails. */
  end(): void {
    if (this.#made === 0) this.#failures.push('anything to be checked');
    for (const failure of this.#failures) process.stderr.write(`expected ${failure}\n`);
    process.stdout.write(`${this.#made - this.#failures.length} of ${this.#made} expectations held\n`);
    process.exitCode = this.#failures.length === 0 ? 0 : 1;
  }
}

/** Ids of resources, in order. */
export function idsOf(resources: readonly unknown[]): string[] {
  return resources.map((resource) => String((resource as { id?: unknown }).id)).sort();
}
