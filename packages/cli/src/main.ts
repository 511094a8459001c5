#!/usr/bin/env node
import { hmcp } from './hmcp.js';

// A reader that has seen enough (`hmcp … | head`), or a terminal that was closed, is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
  process.exit(0);
});

const { stdout, stderr, env } = process;
const io = {
  // Opened only by a command that reads it.
  get stdin() {
    return process.stdin;
  },
  stdout,
  stderr,
  env,
  now: Date.now,
};
process.exitCode = await hmcp(process.argv.slice(2), io);
