import { format } from 'node:util';
import { afterEach } from 'vitest';

// A test that prints fails: what it prints hides the next failure, and may be what no log should hold.
const printed: string[] = [];

for (const method of ['log', 'info', 'warn', 'error', 'debug', 'trace'] as const)
  console[method] = (...values: unknown[]) => {
    printed.push(`console.${method}: ${format(...values)}`);
  };

for (const name of ['stdout', 'stderr'] as const)
  process[name].write = ((chunk: string | Uint8Array) => {
    printed.push(`process.${name}: ${typeof chunk === 'string' ? chunk : new TextDecoder().decode(chunk)}`);
    return true;
  }) as typeof process.stdout.write;

afterEach(() => {
  const [first] = printed.splice(0);
  if (first !== undefined) throw new Error(`a test printed: ${first.slice(0, 400)}`);
});
