import { META } from '@hmcp/core';
import { createProtection } from '@hmcp/server';
import { InMemoryTransport, type JSONRPCMessage, McpServer } from '@modelcontextprotocol/server';
import { expect, onTestFinished, test } from 'vitest';
import { type Answer, type Issuer, issuerFor } from './stand.js';

const resource = 'https://labs.example/mcp';

/** A server somebody already has, protected on a pipe to its parent; gives what the parent uses to call it. */
async function child({ verifier }: Issuer) {
  const protection = createProtection({
    resource,
    authorizationServers: ['https://as.example'],
    verifier,
    audit: { append: async () => {}, close: async () => {} },
    pseudonymKey: 'a key of this example',
    operations: { tools: { 'count-results': { scope: 'patient/Observation.rs', patientArgument: null } } },
  });
  const server = new McpServer({ name: 'labs', version: '1.0.0' });
  server.registerTool('count-results', {}, async () => ({ content: [{ type: 'text', text: '3' }] }));
  const [parent, pipe] = InMemoryTransport.createLinkedPair();
  await server.connect(protection.protect(pipe));
  onTestFinished(() => server.close());
  const waiting = new Map<unknown, (answer: Answer) => void>();
  parent.onmessage = (message) => waiting.get((message as { id?: unknown }).id)?.(message as Answer);
  await parent.start();
  let id = 0;
  const ask = (method: string, params: object): Promise<Answer> =>
    new Promise((resolve, reject) => {
      id += 1;
      waiting.set(id, resolve);
      parent.send({ jsonrpc: '2.0', id, method, params } as JSONRPCMessage).catch(reject);
    });
  const clientInfo = { name: 'parent', version: '1' };
  await ask('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo });
  return (_meta: object) => ask('tools/call', { name: 'count-results', arguments: {}, _meta });
}

test('40100 unauthorized', async () => {
  const issuer = await issuerFor(resource);
  const call = await child(issuer);
  // #region 40100-refused
  const nobody = await call({}); // on a pipe there is no HTTP 401
  expect(nobody.error).toMatchObject({ code: 40100, data: { check: 'token' } });
  // #endregion 40100-refused
  // #region 40100-mended
  const somebody = await call({ [META.authorization]: await issuer.token() }); // written by the parent, for its own child
  expect(somebody.result).toMatchObject({ content: [{ text: '3' }] });
  // #endregion 40100-mended
});

test('40300 insufficient_scope', async () => {
  const issuer = await issuerFor(resource);
  const call = await child(issuer);
  // #region 40300-refused
  const narrow = await issuer.token({ scope: 'patient/Condition.rs' });
  expect((await call({ [META.authorization]: narrow })).error).toMatchObject({ code: 40300, data: { check: 'scope' } });
  // #endregion 40300-refused
  // #region 40300-mended
  const enough = await issuer.token({ scope: 'patient/Condition.rs patient/Observation.rs' });
  expect((await call({ [META.authorization]: enough })).error).toBeUndefined();
  // #endregion 40300-mended
});
