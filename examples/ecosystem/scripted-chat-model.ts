import { BaseChatModel } from '@langchain/core/language_models/chat_models';
import { AIMessage, type BaseMessage } from '@langchain/core/messages';
import type { ChatResult } from '@langchain/core/outputs';
import type { Script } from './script.js';

/** A chat model of LangChain that follows a script: no key, no network. */
export class ScriptedChatModel extends BaseChatModel {
  readonly #script: Script;

  constructor(script: Script) {
    super({});
    this.#script = script;
  }

  override _llmType(): string {
    return 'scripted';
  }

  override bindTools(): this {
    return this;
  }

  override async _generate(messages: BaseMessage[]): Promise<ChatResult> {
    const last = messages.at(-1);
    const asked = this.#script.next(last?.getType() === 'tool', JSON.stringify(last?.content));
    const message =
      typeof asked === 'string'
        ? new AIMessage(asked)
        : new AIMessage({ content: '', tool_calls: [{ ...asked, id: `call-${messages.length}`, type: 'tool_call' }] });
    return { generations: [{ text: message.text, message }] };
  }
}
