import { openSession } from '@hmcp/agent';
import { explain } from '@hmcp/core';
import { AIMessage, type BaseMessage } from '@langchain/core/messages';
import { loadMcpTools } from '@langchain/mcp-adapters';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { createAgent, fakeModel } from 'langchain';
import { deskOf, openBrowser, peer, smart } from './desk.js';

const labs = peer('old-labs');
await using desk = deskOf(labs);
const grant = await smart.authorize({ launch: 'patient', scope: 'launch/patient patient/Observation.rs', open: openBrowser });
const session = await openSession({ agent: desk, grant });
session.events.on('refused', ({ refusal }) => console.log(refusal === undefined ? 'refused' : explain(refusal)));

// The one line that makes it safe: the client's requests are about the session's patient, its answers are checked.
const transport = session.transport(new StreamableHTTPClientTransport(new URL(labs.resource)));
const client = new Client({ name: 'assistant', version: '1.0.0' });
await client.connect(transport);

// A model that follows a script and needs no key; any chat model of LangChain can stand here.
const say = (messages: BaseMessage[]) => {
  const [, value] = /value\W+([\d.]+)/.exec(String(messages.at(-1)?.text)) ?? [];
  return new AIMessage(value === undefined ? 'The laboratory did not tell me.' : `The potassium is ${value}.`);
};
const model = fakeModel()
  .respondWithTools([{ name: 'get-labs', args: { test: 'Potassium' } }])
  .respond(say)
  .respondWithTools([{ name: 'get-labs', args: { patientId: 'somebody-else' } }]) // what a model might write
  .respond(say);
const agent = createAgent({ model, tools: await loadMcpTools('labs', client) });

for (const content of ['How is the potassium?', 'And how is the other patient?']) {
  const messages = [{ role: 'user', content }];
  const answer = await session.act((signal) => agent.invoke({ messages }, { signal })); // one act of the person: one patient
  console.log(answer.messages.at(-1)?.text);
}

await client.close();
await session.close();
await grant.revoke();
