import type { Session } from '@hmcp/agent';
import type { BaseChatModel } from '@langchain/core/language_models/chat_models';
import { loadMcpTools } from '@langchain/mcp-adapters';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { createAgent } from 'langchain';

/** An agent of LangChain whose MCP tools are about whoever is open in `session`: made once, it goes on after a switch. */
export async function langchainAssistant(session: Session, labsUrl: string, model: BaseChatModel) {
  const client = new Client({ name: 'visit-summary', version: '1.0.0' });
  await client.connect(session.transport(new StreamableHTTPClientTransport(new URL(labsUrl)))); // the peer is found by its address
  const agent = createAgent({ model, tools: await loadMcpTools('labs', client) });
  return {
    async ask(question: string) {
      const messages = [{ role: 'user', content: question }];
      const answer = await session.act((signal) => agent.invoke({ messages }, { signal })); // one act of the person: one patient
      return answer.messages;
    },
    close: () => client.close(),
  };
}
