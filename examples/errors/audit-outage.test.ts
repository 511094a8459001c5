import { expect, test } from 'vitest';
import { declared } from './agents.js';
import { callTool, issuerFor } from './stand.js';

const resource = 'https://labs.example/mcp';

test('50302 audit_unavailable', async () => {
  const { verifier, token } = await issuerFor(resource);
  let full = true;
  const audit = {
    append: async () => {
      if (full) throw new Error('no space left on the device');
    },
    close: async () => {},
  };
  const env = { resource, authorizationServers: ['https://as.example'], verifier, audit, pseudonymKey: 'a key of this example' };
  const labs = declared.create(env);
  // #region 50302-refused
  const unrecorded = await callTool(labs, resource, await token(), 'count-results'); // the disk of the audit log is full
  expect(unrecorded.error).toMatchObject({ code: 50302, data: { check: 'audit', retry: 'same' } });
  expect(unrecorded.result).toBeUndefined(); // the handler ran; nothing of it is released
  // #endregion 50302-refused
  // #region 50302-mended
  full = false; // somebody made space
  const recorded = await callTool(labs, resource, await token(), 'count-results');
  expect(recorded.result?.structuredContent).toEqual({ count: 3 });
  // #endregion 50302-mended
  await labs.close();
});
