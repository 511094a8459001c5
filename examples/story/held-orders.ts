import { readPartyConfig, runParty, serveParty, signOrder } from '@hmcp/clinic';
import { MAX_PERMIT_MS } from '@hmcp/core';
import { createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import { openGate } from './gate.js';

// An order system whose process stands still between being asked and acting: it is given its permit, waits at a gate, and by
// its own clock ten seconds have gone by when the story opens it. The effect is refused here, at the last moment it can be.
await runParty(async () => {
  const config = await readPartyConfig(process.argv[2] ?? '');
  const gate = openGate(process);
  let stoodStill = 0;
  const heldOrders = defineAgent('held-orders', (env) =>
    createHmcpHandler(
      () => {
        const server = new McpServer({ name: 'held-orders', version: '1.0.0' });
        patientTool(server, signOrder, async ({ draft }, { effect }) => {
          await gate.pass();
          stoodStill += MAX_PERMIT_MS;
          return effect(`sign:${draft}`, async () => {
            process.send?.({ type: 'signed' });
            return { order: 'ord_signed-too-late', signedAt: new Date().toISOString() };
          });
        });
        return server;
      },
      { ...env, monotonic: () => performance.now() + stoodStill },
    ),
  );
  return serveParty(heldOrders, config, { part: { role: 'effector' } });
});
