import type { AgentEnv } from '@hmcp/server';
import { createProtection } from '@hmcp/server';
import { createTestbed, people } from '@hmcp/testing';
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js';
import { expect, test } from 'vitest';
import '@hmcp/testing/vitest';
import { getLabs } from './contracts.js';
import { operations } from './operations.js';
import { numberedLabs } from './own-numbers.js';

const { adalinde: ada, beatrisa: bea } = people;
const numbered = {
  name: 'numbered-labs',
  create(env: AgentEnv) {
    const hmcp = createProtection({ ...env, operations: { tools: { 'get-labs': operations.tools['get-labs'] } } });
    const fetch = hmcp.fetch(async (request, passed) => {
      const transport = new WebStandardStreamableHTTPServerTransport();
      await numberedLabs().connect(hmcp.protect(transport));
      return transport.handleRequest(request, passed);
    });
    return { fetch };
  },
};

test('rows with a number of their own are served to whom they belong, and to nobody else', async () => {
  await using bed = await createTestbed({ agents: [numbered], interleave: false, people: [ada, bea] });
  const session = await bed.open(ada);
  const { results } = await session.call('numbered-labs', getLabs, {});
  expect(results).toMatchObject([{ value: 5.873, subject: { reference: `Patient/${ada.id}` } }]);
  const confused = { test: 'Potassium', patientId: bea.id };
  await expect(session.call('numbered-labs', getLabs, confused)).toHaveRefused(40903, { check: 'argument' });
  await bed.switch(session, bea);
  expect((await session.call('numbered-labs', getLabs, {})).results).toMatchObject([{ value: 3.287 }]);
  expect(bed.trace).toStayOnPatient();
});
