import { fileURLToPath } from 'node:url';
import { langchainAssistant } from './langchain.js';
import { ScriptedChatModel } from './scripted-chat-model.js';
import { playVisit } from './visit.js';

// An agent of LangChain, and the SDK v1 server of examples/protect-v1: neither was written for HMCP.

await playVisit({
  name: 'langchain',
  server: 'old-labs',
  tool: 'get-labs',
  extra: {
    name: 'old-labs',
    module: fileURLToPath(new URL('../../dist/protect-v1/serve.js', import.meta.url)),
    scope: 'patient/Observation.rs',
  },
  managed: false,
  connect: (session, url, script) => langchainAssistant(session, url, new ScriptedChatModel(script)),
});
