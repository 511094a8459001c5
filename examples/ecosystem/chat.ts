import { openSession } from '@hmcp/agent';
import { explain, type HmcpError } from '@hmcp/core';
import { AIMessage, type BaseMessage, ToolMessage } from '@langchain/core/messages';
import { loadMcpTools } from '@langchain/mcp-adapters';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { createAgent, createMiddleware, fakeModel } from 'langchain';
import { deskOf, openBrowser, peer, smart } from './desk.js';

const labs = peer('old-labs');
await using desk = deskOf(labs);
const grant = await smart.authorize({ launch: 'patient', scope: 'launch/patient patient/Observation.rs', open: openBrowser });
const session = await openSession({ agent: desk, grant });

// The one line that makes it safe: the client's requests are about the session's patient, its answers are checked.
const transport = session.transport(new StreamableHTTPClientTransport(new URL(labs.resource)));
const client = new Client({ name: 'assistant', version: '1.0.0' });
await client.connect(transport);

// The model is told of a refusal what `explain` says. By itself LangChain adds "Please fix your mistakes.", whatever was refused.
let told = '';
const hear = ({ refusal }: { refusal: HmcpError | undefined }) => {
  told = refusal === undefined ? '' : explain(refusal);
};
session.events.on('refused', hear).on('result-dropped', hear);
const refusals = createMiddleware({
  name: 'refusals',
  wrapToolCall: async (request, handler) => {
    told = '';
    try {
      return await handler(request);
    } catch (error) {
      if (told === '') throw error; // no refusal
      console.log(told);
      return new ToolMessage({ content: told, tool_call_id: request.toolCall.id ?? '', status: 'error' });
    }
  },
});

// A model that follows a script and needs no key; any chat model of LangChain can stand here.
const say = (messages: BaseMessage[]) => {
  const heard = String(messages.at(-1)?.text);
  const [, value] = /value\W+([\d.]+)/.exec(heard) ?? [];
  if (value !== undefined) return new AIMessage(`The potassium is ${value}.`);
  return new AIMessage(/\nDo not retry\./.test(heard) ? 'I may not know, and shall not ask again.' : 'I do not know.');
};
const model = fakeModel()
  .respondWithTools([{ name: 'get-labs', args: { test: 'Potassium' } }])
  .respond(say)
  .respondWithTools([{ name: 'get-labs', args: { patientId: 'somebody-else' } }]) // what a model might write
  .respond(say);
const agent = createAgent({ model, tools: await loadMcpTools('labs', client), middleware: [refusals] });

for (const content of ['How is the potassium?', 'And how is the other patient?']) {
  const messages = [{ role: 'user', content }];
  const answer = await session.act((signal) => agent.invoke({ messages }, { signal })); // one act of the person: one patient
  console.log(answer.messages.at(-1)?.text);
}

await client.close();
await session.close();
await grant.revoke();
