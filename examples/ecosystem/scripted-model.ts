import { type Model, type ModelRequest, type ModelResponse, Usage } from '@openai/agents';
import type { Script } from './script.js';

/** A model of the OpenAI Agents SDK that follows a script: no key, no network. */
export class ScriptedModel implements Model {
  readonly #script: Script;

  constructor(script: Script) {
    this.#script = script;
  }

  async getResponse({ input }: ModelRequest): Promise<ModelResponse> {
    const last = typeof input === 'string' ? undefined : input.at(-1);
    const isResult = last?.type === 'function_call_result';
    const asked = this.#script.next(isResult, JSON.stringify(isResult ? last.output : input));
    const usage = new Usage();
    if (typeof asked === 'string') {
      const content = [{ type: 'output_text' as const, text: asked }];
      return { usage, output: [{ type: 'message', role: 'assistant', status: 'completed', content }] };
    }
    const call = { name: asked.name, arguments: JSON.stringify(asked.args), callId: `call-${this.#script.shown.length}` };
    return { usage, output: [{ type: 'function_call', status: 'completed', ...call }] };
  }

  // biome-ignore lint/correctness/useYield: this model has no streams
  async *getStreamedResponse(): AsyncGenerator<never> {
    throw new Error('a scripted model does not stream');
  }
}
