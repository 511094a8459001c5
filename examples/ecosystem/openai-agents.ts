import type { Session } from '@hmcp/agent';
import { Agent, MCPServerStreamableHttp, type Model, Runner } from '@openai/agents';

/** An agent of the OpenAI Agents SDK whose MCP server is asked about whoever is open in `session`. */
export async function openAiAssistant(session: Session, labsUrl: string, model: Model) {
  // #region connect
  const labs = new MCPServerStreamableHttp({ url: labsUrl, fetch: session.fetch, useStructuredContent: true });
  await labs.connect();
  const agent = new Agent({ name: 'visit-summary', model, mcpServers: [labs] });
  const runner = new Runner({ tracingDisabled: true }); // its traces would hold what the tools answered
  // #endregion
  return {
    async ask(question: string) {
      // #region act
      const answer = await session.act((signal) => runner.run(agent, question, { signal })); // one act of the person: one patient
      // #endregion
      return answer.finalOutput ?? '';
    },
    close: () => labs.close(),
  };
}
