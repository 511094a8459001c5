import { createServer } from 'node:http';
import { nodeListener } from '@hmcp/server';
import { caller } from './caller.js';
import { env, listen } from './deployment.js';
import { summary } from './summary.js';

listen(createServer(nodeListener(summary.create({ ...env, outbound: caller }))));
