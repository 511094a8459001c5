import { createProtection } from '@hmcp/server';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { audit, env } from './deployment.js';
import { labs } from './labs.js';
import { operations } from './operations.js';

const hmcp = createProtection({ ...env, operations });
await labs().connect(hmcp.protect(new StdioServerTransport())); // there is no gate: each request brings its token over the pipe

const stop = async (): Promise<void> => {
  await audit.close();
  process.exit(0);
};
process.stdin.once('end', stop); // its parent has gone, or wants it no more
process.once('SIGTERM', stop);
