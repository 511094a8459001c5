import { type ContextManager, createContextManager, memoryStore } from '@hmcp/context-manager';
import { exportJWK, generateKeyPair } from 'jose';
import { expect, onTestFinished, test } from 'vitest';
import { type Answer, callTool, issuerFor } from './stand.js';

const resource = 'https://manager.example/mcp';

/** A context manager, and the person's own client calling its tools by hand. */
async function manager(): Promise<(tool: string, args: object) => Promise<Answer>> {
  const { verifier, token } = await issuerFor(resource);
  const { privateKey } = await generateKeyPair('ES256', { extractable: true });
  const built: ContextManager = await createContextManager({
    resource,
    clientId: 'context-manager',
    trustDomain: 'example',
    authorizationServers: ['https://as.example'],
    fhirServers: ['https://ehr.example/r4'],
    verifier,
    store: memoryStore(),
    sealKey: { ...(await exportJWK(privateKey)), kid: 'seals', alg: 'ES256' },
    tenantKey: 'a key of this example',
    pseudonymKey: 'a key of this example',
    clients: [
      { clientId: 'portal', name: 'Portal', humanUi: true },
      { clientId: 'labs', name: 'Labs' },
    ],
    tokens: { exchange: () => Promise.reject(new TypeError('nothing is exchanged here')) },
  });
  onTestFinished(() => built.close());
  const scope = 'hmcp:context.switch hmcp:context.participate patient/Patient.r';
  return async (tool, args) => callTool(built, resource, await token({ scope }), tool, { ...args });
}

const target = { patient: 'A1' };

test('40904 switch_id_reused', async () => {
  const call = await manager();
  // #region 40904-refused
  await call('hmcp-context-open', { idempotencyKey: 'visit-1', target, participants: [] });
  const other = await call('hmcp-context-open', { idempotencyKey: 'visit-1', target, participants: ['labs'] });
  expect(other.error).toMatchObject({ code: 40904, data: { check: 'session', retry: 'never' } });
  // #endregion 40904-refused
  // #region 40904-mended
  const fresh = await call('hmcp-context-open', { idempotencyKey: 'visit-2', target, participants: ['labs'] });
  expect(fresh.result?.structuredContent).toMatchObject({ epoch: 1, state: 'active' });
  // #endregion 40904-mended
});

test('41201 epoch_precondition', async () => {
  const call = await manager();
  const opened = await call('hmcp-context-open', { idempotencyKey: 'visit-1', target, participants: [] });
  const { sid, epoch } = opened.result?.structuredContent as { sid: string; epoch: number };
  // #region 41201-refused
  const early = await call('hmcp-context-close', { sid, switchId: 'end-1', expectedEpoch: epoch + 1 });
  expect(early.error).toMatchObject({ code: 41201, data: { check: 'epoch', retry: 'after_user' } });
  // #endregion 41201-refused
  // #region 41201-mended
  const closed = await call('hmcp-context-close', { sid, switchId: 'end-2', expectedEpoch: epoch }); // as `get` says it is
  expect(closed.result?.structuredContent).toMatchObject({ result: 'committed' });
  // #endregion 41201-mended
});
