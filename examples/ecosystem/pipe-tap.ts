// Stands between a parent and a server on pipes, and writes down what the parent sends: `node pipe-tap.js LOG MODULE ARG…`.
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';

const [log = '', ...command] = process.argv.slice(2);
const child = spawn(process.execPath, command, { stdio: ['pipe', 'pipe', 'ignore'] });
process.stdin.pipe(createWriteStream(log, { flags: 'a' }));
process.stdin.pipe(child.stdin);
child.stdout.pipe(process.stdout);
process.stdin.once('end', () => child.kill('SIGTERM'));
child.once('exit', () => process.exit(0));
