import { HmcpError } from '@hmcp/core';
import { errorAnswer } from './answer-check.js';
import { asEvent, eventData, MOST_CHARACTERS } from './event-stream.js';
import type { JsonRpcMessage } from './instrument.js';

/** Milliseconds a peer has to end its stream after the answer, so that the connection can be used again; then it is cut. */
const END_MS = 5000;

/** Events that may wait for a client that does not read; the peer's stream is read no further meanwhile. */
const MOST_WAITING = 64;

/** A peer answered a POST by an HTTP status alone, or with the text beside it. */
export class PeerStatus extends Error {
  readonly status: number;
  readonly body: unknown;

  constructor(status: number, body: unknown) {
    super('the peer answered with an HTTP status');
    this.name = 'PeerStatus';
    this.status = status;
    this.body = body;
  }
}

/**
 * The response to one request of a client that has only a `fetch`: written anew from the messages that passed their checks, so that
 * not a byte of the peer's own response is in it. A refusal is a JSON-RPC error in it, which every client reads.
 */
export class FetchReply {
  readonly response: Promise<Response>;
  /** Hands a checked message over. */
  readonly deliver: (message: JsonRpcMessage) => void;
  readonly #id: string | number;
  readonly #gone: () => void;
  #respond: (response: Response) => void = () => undefined;
  #reject: (error: unknown) => void = () => undefined;
  #headers = new Headers();
  #stream: ReadableStreamDefaultController<Uint8Array> | undefined;
  #readOn: () => void = () => undefined;
  #over = false;

  /** @param gone is called when the client stops reading */
  constructor(id: string | number, gone: () => void) {
    this.#id = id;
    this.#gone = gone;
    this.response = new Promise((resolve, reject) => {
      this.#respond = resolve;
      this.#reject = reject;
    });
    this.deliver = (message) => this.#hand(message);
  }

  /** A refusal as the whole response. */
  static refusal(id: string | number, error: HmcpError): Response {
    return Response.json(errorAnswer(id, error));
  }

  /**
   * Reads what the peer sent up to its answer, one message after the other. What comes behind that belongs to nothing: no fault in it touches the answer.
   * @param receive takes a message; resolves once that waits for nothing any more
   * @throws {PeerStatus} for an HTTP status that is no answer
   * @throws {Error} when it ended without an answer, or cannot be read
   */
  async take(response: Response, receive: (message: JsonRpcMessage) => Promise<void> | undefined): Promise<void> {
    const kind = (response.headers.get('content-type') ?? '').split(';')[0]?.trim().toLowerCase();
    const isJson = kind === 'application/json';
    if (!response.ok)
      throw new PeerStatus(response.status, isJson ? await jsonOf(response).catch(() => undefined) : await ended(response));
    const session = response.headers.get('mcp-session-id');
    if (session !== null) this.#headers.set('mcp-session-id', session);
    let handled: Promise<void> | undefined;
    const isAnswer = (message: unknown): boolean => {
      if (!isMessage(message)) throw new Error('the peer sent something that is no message');
      handled = receive(message);
      return message.method === undefined && message.id === this.#id;
    };
    if (isJson) {
      if ([await jsonOf(response)].flat().some(isAnswer)) return;
    } else if (kind === 'text/event-stream' && response.body !== null) {
      this.#open();
      const events = eventData(response.body);
      try {
        for (let event = await events.next(); !event.done; event = await events.next()) {
          if (isAnswer(JSON.parse(event.value))) return this.#letEnd(events);
          await handled;
          await this.#room();
        }
      } catch (error) {
        await events.return(undefined);
        throw error;
      }
    } else await ended(response);
    throw new Error('the peer sent no answer');
  }

  /** The request did not come to an answer of the peer. */
  fail(error: unknown, link: { failure(error: Error): Error }): void {
    if (this.#over) return;
    if (error instanceof HmcpError) this.#hand(errorAnswer(this.#id, error));
    else if (error instanceof PeerStatus) this.#finish(() => this.#respond(statusOnly(error)));
    else this.abort(link.failure(error instanceof Error ? error : new Error('unknown')));
  }

  /** The client waits no more. */
  leave(): void {
    this.#finish(() => this.#respond(new Response(null, { status: 202 })));
  }

  /** Nothing comes any more; the client learns of it as of any `fetch`. */
  abort(reason: unknown): void {
    this.#finish(
      () => this.#reject(reason),
      (stream) => stream.error(reason),
    );
  }

  #hand(message: JsonRpcMessage): void {
    if (this.#over) return;
    const last = message.method === undefined && message.id === this.#id;
    if (this.#stream !== undefined) this.#stream.enqueue(asEvent(message));
    if (last) this.#finish(() => this.#respond(Response.json(message, { headers: this.#headers })));
  }

  /** The peer answers with a stream, so the client gets one. */
  #open(): void {
    if (this.#over) return;
    const source: UnderlyingDefaultSource<Uint8Array> = {
      start: (controller) => {
        this.#stream = controller;
      },
      pull: () => this.#readOn(),
      cancel: () => {
        this.#over = true;
        this.#readOn();
        this.#gone();
      },
    };
    const body = new ReadableStream(source, { highWaterMark: MOST_WAITING });
    this.#headers.set('content-type', 'text/event-stream');
    this.#respond(new Response(body, { headers: this.#headers }));
  }

  #finish(respond: () => void, end = (stream: ReadableStreamDefaultController<Uint8Array>) => stream.close()): void {
    if (this.#over) return;
    this.#over = true;
    if (this.#stream === undefined) respond();
    else end(this.#stream);
    this.#readOn();
  }

  /** Waits until the client has read enough of what it was handed, or reads no more at all. */
  async #room(): Promise<void> {
    if (this.#over || (this.#stream?.desiredSize ?? 1) > 0) return;
    await new Promise<void>((resolve) => {
      this.#readOn = resolve;
    });
  }

  #letEnd(events: AsyncGenerator<string>): void {
    const timer = setTimeout(this.#gone, END_MS);
    timer.unref();
    const rest = async (): Promise<void> => {
      while (!(await events.next()).done);
    };
    rest()
      .catch(() => undefined)
      .finally(() => clearTimeout(timer));
  }
}

/** A handshake may be answered by a status and an error beside it, by which clients learn which revision the peer speaks. */
function statusOnly({ status, body }: PeerStatus): Response {
  return isMessage(body) ? Response.json(body, { status }) : new Response(null, { status });
}

function isMessage(value: unknown): value is JsonRpcMessage {
  return typeof value === 'object' && value !== null && 'jsonrpc' in value && value.jsonrpc === '2.0';
}

/** @throws {Error} when it is no JSON, or of more than {@link MOST_CHARACTERS} */
async function jsonOf({ body }: Response): Promise<unknown> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const piece of body ?? []) {
    text += decoder.decode(piece, { stream: true });
    if (text.length > MOST_CHARACTERS) throw new Error('an answer is too long');
  }
  return JSON.parse(text + decoder.decode()) as unknown;
}

async function ended(response: Response): Promise<undefined> {
  await response.body?.cancel();
  return undefined;
}
