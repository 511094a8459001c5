import { Agent, request } from 'node:http';
import { isExpected, type Sent } from './workload.js';

/** What one phase of load saw. */
export interface Load {
  readonly requests: number;
  readonly seconds: number;
  /** Of every request, in ms, from before it was written until its last byte was read. */
  readonly latencies: readonly number[];
}

/** A phase of closed-loop load: every connection asks again once it was answered. */
export interface LoadOptions {
  readonly port: number;
  readonly connections: number;
  readonly seconds: number;
  /** The next request; `undefined` ends the phase. */
  readonly next: () => Sent | undefined;
  /** Whether answers must be bound. */
  readonly guarded: boolean;
}

/** Loads one server over kept-alive connections. @throws when an answer is not the expected one */
export async function load({ port, connections, seconds, next, guarded }: LoadOptions): Promise<Load> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const latencies: number[] = [];
  const began = performance.now();
  const until = began + seconds * 1000;
  const connection = async (): Promise<void> => {
    while (performance.now() < until) {
      const sent = next();
      if (sent === undefined) return;
      const at = performance.now();
      const { status, text } = await post(agent, port, sent);
      latencies.push(performance.now() - at);
      if (!isExpected(status, text, guarded))
        throw new Error(`an answer was not the expected one: ${status} ${text.slice(0, 200)}`);
    }
  };
  try {
    await Promise.all(Array.from({ length: connections }, connection));
    return { requests: latencies.length, seconds: (performance.now() - began) / 1000, latencies };
  } finally {
    agent.destroy();
  }
}

function post(agent: Agent, port: number, { headers, body }: Sent): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const options = { agent, host: '127.0.0.1', port, path: '/mcp', method: 'POST', timeout: 20_000 };
    const length = { 'content-length': `${Buffer.byteLength(body)}` };
    const outgoing = request({ ...options, headers: { ...headers, ...length } }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
      response.on('error', reject);
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error('a server did not answer in 20 s')));
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}
