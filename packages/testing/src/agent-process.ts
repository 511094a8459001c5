import { Life } from './life.js';
import type { Host, Network } from './network.js';

/** One running process: what serves, and how to leave it. */
export interface Running {
  readonly serve: (request: Request) => Promise<Response>;
  close(): Promise<void>;
}

/** Starts a process; everything it asks, writes and remembers belongs to the life it is given. */
export type Start = (life: Life) => Promise<Running>;

/** An agent under its address. It may crash and start anew; whoever was being served gets no answer. */
export class AgentProcess {
  readonly #name: string;
  readonly #url: string;
  readonly #network: Network;
  readonly #start: Start;
  #life = new Life();
  #running: Running | undefined;

  private constructor(parts: { name: string; url: string; network: Network; start: Start }) {
    this.#name = parts.name;
    this.#url = parts.url;
    this.#network = parts.network;
    this.#start = parts.start;
  }

  /** Starts an agent. */
  static async started(parts: { name: string; url: string; network: Network; start: Start }): Promise<AgentProcess> {
    const agent = new AgentProcess(parts);
    await agent.#begin();
    return agent;
  }

  close(): Promise<void> {
    return this.#running?.close() ?? Promise.resolve();
  }

  async #begin(): Promise<void> {
    const life = new Life();
    const running = await this.#start(life);
    this.#life = life;
    this.#running = running;
    const host: Host = { name: this.#name, serve: running.serve, ended: life.over, crash: (work) => this.#crash(work) };
    this.#network.attach(this.#url, host);
  }

  async #crash(work: () => Promise<unknown>): Promise<void> {
    const [life, running] = [this.#life, this.#running];
    const worked = work().then(
      () => undefined,
      () => undefined,
    );
    await Promise.race([life.doom(), worked]);
    life.end();
    // What is left of it is cleared away; it can reach nobody any more.
    running?.close().catch(() => undefined);
    await this.#begin();
  }
}
