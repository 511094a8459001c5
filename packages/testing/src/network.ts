import { type Serve, type Suffering, suffer, type World } from './fault.js';

/** What a request meets on its way; everything but `serve` is optional to use. */
export interface Passage {
  /** What befalls it. */
  readonly fault?: Suffering | undefined;
  /** Awaited before the request is served. */
  before(): Promise<void>;
  /** Told every piece of the answer, and awaited before the piece goes on. */
  piece(text: string): Promise<void>;
  /** Told the status and the media type of the answer. */
  status(status: number, type: string): void;
  /** Awaited when the last piece has gone on, before the answer ends. */
  after(): Promise<void>;
  /** Told that the caller went away, or that nobody serves. */
  broken(): void;
}

/** Looks at a request that is about to leave, with its body. */
export type Look = (from: string, to: string, request: Request, body: string) => Passage | undefined;

/** Who serves an origin. */
export interface Host {
  readonly name: string;
  readonly serve: Serve;
  /** Ends this host in the middle of some work and starts it anew. @default nobody here can crash */
  readonly crash?: World['crash'] | undefined;
  /** Rejects when this host has ended, whatever it was doing. */
  readonly ended?: Promise<never> | undefined;
}

/** A network inside one process: requests go to whoever serves the origin of their URL. There is no other network behind it. */
export class Network {
  readonly #hosts = new Map<string, Host>();
  readonly #look: Look;
  readonly #stir: () => void;
  readonly #advance: (ms: number) => void;

  constructor(options: { readonly look: Look; readonly stir: () => void; readonly advance: (ms: number) => void }) {
    this.#look = options.look;
    this.#stir = options.stir;
    this.#advance = options.advance;
  }

  /** Serves the origin of a URL from now on. */
  attach(url: string, host: Host): void {
    this.#hosts.set(new URL(url).origin, host);
  }

  /** The `fetch` of one party. An origin nobody serves fails as an unreachable host does. */
  fetchOf(from: string): typeof globalThis.fetch {
    return async (input, init) => {
      const request = new Request(input, init);
      const { signal } = request;
      signal.throwIfAborted();
      const host = this.#hosts.get(new URL(request.url).origin);
      if (host === undefined) throw new TypeError('fetch failed');
      this.#stir();
      const body = await request.clone().text();
      const passage = this.#look(from, host.name, request, body);
      const world: World = {
        serve: async (one) => Promise.race([host.serve(one), ...(host.ended === undefined ? [] : [host.ended])]),
        advance: this.#advance,
        crash: async (work) => {
          if (host.crash === undefined) await work();
          else await host.crash(work);
        },
      };
      try {
        const response = await orAborted(signal, async () => {
          await passage?.before();
          return suffer(passage?.fault, request, body, world);
        });
        this.#stir();
        if (passage === undefined) return response;
        passage.status(response.status, response.headers.get('content-type') ?? '');
        if (response.body !== null) return carried(response, response.body, signal, passage);
        await passage.after();
        return response;
      } catch (error) {
        passage?.broken();
        throw error;
      }
    };
  }
}

/** The work, unless the caller goes away first. */
async function orAborted<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  let stop = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([work(), aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** The same answer, each piece shown to the passage first; it breaks when the caller goes away. */
function carried(response: Response, body: ReadableStream<Uint8Array>, signal: AbortSignal, passage: Passage): Response {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const stream = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await orAborted(signal, async () => {
          const piece = await reader.read();
          if (piece.done) await passage.after();
          else await passage.piece(decoder.decode(piece.value, { stream: true }));
          return piece;
        });
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        passage.broken();
        controller.error(error);
        await reader.cancel(error).catch(() => undefined);
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
  const { status, statusText, headers } = response;
  return new Response(stream, { status, statusText, headers });
}
