// The protected server as a function of its deployment, for tests: they hand it another `env`.
import { type AgentEnv, createProtection } from '@hmcp/server';
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js';
import { labs } from './labs.js';
import { operations } from './operations.js';

export const oldLabs = {
  name: 'old-labs',
  create(env: AgentEnv) {
    const hmcp = createProtection({ ...env, operations });
    const fetch = hmcp.fetch(async (request, passed) => {
      const transport = new WebStandardStreamableHTTPServerTransport();
      await labs().connect(hmcp.protect(transport));
      return transport.handleRequest(request, passed);
    });
    return { fetch };
  },
};
