import { readPartyConfig, runParty, serveParty, signOrder } from '@hmcp/clinic';
import { createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import { openGate } from './gate.js';

// An order system that is slow between being asked and acting: it is given its permit, waits at a gate, and acts when the story
// opens it. By then the permit has run out, and the effect is refused here, at the last moment it can be.
await runParty(async () => {
  const config = await readPartyConfig(process.argv[2] ?? '');
  const gate = openGate(process);
  const heldOrders = defineAgent('held-orders', (env) =>
    createHmcpHandler(() => {
      const server = new McpServer({ name: 'held-orders', version: '1.0.0' });
      patientTool(server, signOrder, async ({ draft }, { effect }) => {
        await gate.pass();
        return effect(`sign:${draft}`, async () => {
          process.send?.({ type: 'signed' });
          return { order: 'ord_signed-too-late', signedAt: new Date().toISOString() };
        });
      });
      return server;
    }, env),
  );
  return serveParty(heldOrders, config);
});
