import { createServer } from 'node:http';
import { participate, permitAuthority } from '@hmcp/agent';
import { createClientCredentials } from '@hmcp/auth';
import { nodeListener } from '@hmcp/server';
import { caller } from './caller.js';
import { config, env, listen } from './deployment.js';
import { notes, part } from './notes.js';

const { issuer, client, managers } = config;

const participation = participate({
  agent: caller,
  manager: managers[0].resource,
  credentials: createClientCredentials({ issuer, client }), // its own tokens, for when nobody asks it anything
  delivery: 'push', // the manager calls; 'pull' for a program that nobody can call
  ...part,
});
const permits = permitAuthority({ agent: caller, participation });
listen(createServer(nodeListener(notes.create({ ...env, permits, participation }))));
