import { META, type PatientTool } from '@hmcp/core';

/** Serves one request. */
export type Serve = (request: Request) => Promise<Response>;

/**
 * What befalls one call on the network.
 * - `request lost`: the agent never hears of it · `answer lost`: the agent has done it, nobody hears that
 * - `sent twice`: answered, the agent gets it again, as when a proxy repeats it; the first answer counts
 * - `context lost`: something on the way drops the envelope from `_meta`
 */
export type Fault = 'request lost' | 'answer lost' | 'sent twice' | 'context lost';

/** The faults a test asked for; each befalls one call. */
export class Faults {
  readonly #wanted: { readonly agent: string; readonly tool: string; readonly fault: Fault }[] = [];

  /** Lets a fault befall the next call of a tool at an agent. */
  add(agent: string, { name }: Pick<PatientTool, 'name'>, fault: Fault): void {
    this.#wanted.push({ agent, tool: name, fault });
  }

  /** The fault of a call that has just been sent. */
  of(agent: string, tool: string | undefined): Fault | undefined {
    const at = this.#wanted.findIndex((one) => one.agent === agent && one.tool === tool);
    return at < 0 ? undefined : this.#wanted.splice(at, 1)[0]?.fault;
  }
}

/** Serves a request as the fault has it. @throws {TypeError} as `fetch` does, when nothing comes back */
export async function suffer(fault: Fault | undefined, request: Request, body: string, serve: Serve): Promise<Response> {
  switch (fault) {
    case undefined:
      return serve(request);
    case 'request lost':
      throw new TypeError('fetch failed');
    case 'answer lost':
      await (await serve(request)).text();
      throw new TypeError('fetch failed');
    case 'sent twice': {
      const again = request.clone();
      const first = await serve(request);
      const answer = await first.arrayBuffer();
      await (await serve(again)).text();
      const { status, headers } = first;
      return new Response(answer, { status, headers });
    }
    case 'context lost': {
      const { url, method, headers, signal } = request;
      return serve(new Request(url, { method, headers, signal, body: withoutContext(body) }));
    }
  }
}

function withoutContext(body: string): string {
  return JSON.stringify(JSON.parse(body), (name, value) => (name === META.context ? undefined : value));
}
