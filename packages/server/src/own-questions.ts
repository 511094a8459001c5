import type { MessageExtraInfo } from '@modelcontextprotocol/server';
import { isJsonObject, type Json, type Message, metaOf } from './message.js';

/** Milliseconds the server has to answer a question of the guard. */
const ANSWER_MS = 5000;

/** What the guard itself asks the server behind it, on nobody's behalf; the answers go nowhere else. */
export class OwnQuestions {
  readonly #asked = new Map<unknown, (answer: Message | undefined) => void>();

  /**
   * Asks for one page of the list of tools, as a client would.
   * @param params of the request that gave the occasion: of it only what the SDK wants in every request is repeated
   * @returns `{}` when the server has none to show, `undefined` when no answer came
   */
  async tools(
    cursor: string | undefined,
    params: Json,
    extra: MessageExtraInfo,
    deliver: (message: Message, extra: MessageExtraInfo) => void,
  ): Promise<Json | undefined> {
    const id = `tools-${crypto.randomUUID()}`;
    // What revision 2026-07-28 wants in every request, and nothing of this one's context.
    const meta = Object.entries(metaOf(params)).filter(([key]) => key.startsWith('io.modelcontextprotocol/'));
    const answered = new Promise<Message | undefined>((resolve) => {
      this.#asked.set(id, resolve);
      AbortSignal.timeout(ANSWER_MS).addEventListener('abort', () => resolve(undefined), { once: true });
    });
    const asked = { ...(cursor === undefined ? {} : { cursor }), _meta: Object.fromEntries(meta) };
    try {
      deliver({ jsonrpc: '2.0', id, method: 'tools/list', params: asked }, extra);
      const answer = await answered;
      if (answer === undefined) return undefined;
      return isJsonObject(answer.result) ? answer.result : {};
    } finally {
      this.#asked.delete(id);
    }
  }

  /** Takes a message that answers a question; `false` for any other. */
  takes(message: Message): boolean {
    const answer = this.#asked.get(message.id);
    answer?.(message);
    return answer !== undefined;
  }

  /** The connection is gone: no answer comes any more. */
  end(): void {
    for (const answer of this.#asked.values()) answer(undefined);
  }
}
