import { openAiAssistant } from './openai-agents.js';
import { ScriptedModel } from './scripted-model.js';
import { playVisit } from './visit.js';

// An agent of the OpenAI Agents SDK, and the clinic's laboratory, in a session that a context manager holds.

await playVisit({
  name: 'openai-agents',
  server: 'labs',
  tool: 'list_results', // as this SDK spells the name for models
  managed: true,
  connect: (session, url, script) => openAiAssistant(session, url, new ScriptedModel(script)),
});
