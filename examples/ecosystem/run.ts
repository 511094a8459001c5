import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

// Runs every program of this folder as its own process, one after the other; fails if any fails. `run.js NAME …` runs those.

const programs = [
  'run-langchain', // an agent of LangChain on a session
  'run-guide', // the LangChain program of the guides
  'run-openai-agents', // an agent of the OpenAI Agents SDK on a session
  'plain-peers', // servers from the registry that know nothing of a patient
  'mounts', // a protection in front of express, fastify, hono and node:http
];

/** Milliseconds a program may take; then it is ended, which counts as a failure. */
const LIMIT_MS = 180_000;

const asked = process.argv.slice(2);
for (const name of asked.length > 0 ? asked : programs) {
  process.stdout.write(`\n${name}\n`);
  const ended = await run(fileURLToPath(new URL(`./${name}.js`, import.meta.url)));
  if (ended === 0) continue;
  process.stderr.write(`${name} failed: ${ended}\n`);
  process.exitCode = 1;
}

/** Its exit code, or the signal that ended it. */
async function run(program: string): Promise<number | string> {
  const child = spawn(process.execPath, [program], { stdio: ['ignore', 'inherit', 'inherit'], timeout: LIMIT_MS });
  return new Promise((resolve) => {
    child.once('error', () => resolve('it could not be started'));
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
}
