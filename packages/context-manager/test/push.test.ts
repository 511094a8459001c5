import { PARTICIPANT_METHODS } from '@hmcp/core';
import { createMcpHandler, Server } from '@modelcontextprotocol/server';
import { afterEach, describe, expect, it, vi } from 'vitest';
import * as z from 'zod';
import { type Message, mcpParticipants, type ParticipantLink } from '../src/index.js';

const ENDPOINT = { url: 'https://orders.example/mcp', resource: 'https://orders.example/mcp' };
const params = { sid: 'ctx_1', rev: 2, switchId: 's1', epoch: 1, kind: 'switch', deadline: 1 } as const;
const prepare: Message = { to: 'orders', method: PARTICIPANT_METHODS.prepare, params };
const drain: Message = { to: 'orders', method: PARTICIPANT_METHODS.drain, params: { ...params, save: ['d1'] } };
const decided: Message = {
  ...{ to: 'orders', method: PARTICIPANT_METHODS.decided },
  params: { sid: 'ctx_1', rev: 4, switchId: 's1', kind: 'switch', result: 'committed', epoch: 2 },
};

let link: ParticipantLink;
afterEach(() => link.close());

/** A participant that answers as told, and remembers what it was sent. */
function participant(answers: Partial<Record<string, unknown>>) {
  const asked: { method: string; params: unknown; authorization: string | null }[] = [];
  const failures: unknown[] = [];
  let authorization: string | null = null;
  const handler = createMcpHandler(() => {
    const server = new Server({ name: 'orders', version: '1' }, { capabilities: {} });
    for (const method of Object.values(PARTICIPANT_METHODS)) {
      server.setRequestHandler(method, { params: z.looseObject({}) }, async ({ _meta, ...given }) => {
        asked.push({ method, params: given, authorization });
        const answer = answers[method];
        if (answer === undefined) throw new Error('does not answer');
        return answer as Record<string, unknown>;
      });
    }
    return server;
  });
  const tokens: { resource: string; scope: string }[] = [];
  link = mcpParticipants({
    credentials: {
      token: async (request) => {
        tokens.push(request);
        return { accessToken: 'cc-token', scope: request.scope, expiresAt: 9e9 };
      },
    },
    fetch: async (input, init) => {
      const request = new Request(String(input), init as RequestInit);
      if (request.url !== ENDPOINT.url) return new Response(null, { status: 404 });
      authorization = request.headers.get('authorization');
      return handler.fetch(request);
    },
    onFailure: (error) => failures.push(error),
  });
  return { asked, tokens, failures };
}

describe('telling a participant', () => {
  it('is done with a token of the manager for that participant, and brings back its vote and what it drained', async () => {
    const { asked, tokens } = participant({
      [PARTICIPANT_METHODS.prepare]: { vote: 'accept_with_warning', unsaved: [{ id: 'd1', savable: true }] },
      [PARTICIPANT_METHODS.drain]: { saved: ['d1'], cancelled: 2 },
      [PARTICIPANT_METHODS.decided]: {},
    });
    expect(await link.tell(prepare, ENDPOINT)).toMatchObject({ vote: { vote: 'accept_with_warning', inflight: 0 } });
    expect(await link.tell(drain, ENDPOINT)).toMatchObject({ drained: { saved: ['d1'], cancelled: 2, completed: 0 } });
    expect(await link.tell(decided, ENDPOINT)).toBeUndefined();
    expect(asked).toEqual(
      [prepare, drain, decided].map(({ method, params: said }) => ({ method, params: said, authorization: 'Bearer cc-token' })),
    );
    expect(tokens[0]).toEqual({ resource: ENDPOINT.resource, scope: 'hmcp:context.control' });
  });

  it.each([
    ['does not answer', undefined],
    ['answers something else', { vote: 'maybe' }],
    ['answers with more than a vote', { vote: 'accept', patient: 'A1' }],
    ['answers nothing', {}],
  ])('that %s is silence, and the next message is tried anew', async (_, answer) => {
    const answers: Record<string, unknown> = { [PARTICIPANT_METHODS.prepare]: answer };
    const { failures } = participant(answers);
    expect(await link.tell(prepare, ENDPOINT)).toBeUndefined();
    expect(failures).toHaveLength(1);
    answers[PARTICIPANT_METHODS.prepare] = { vote: 'accept' };
    expect(await link.tell(prepare, ENDPOINT)).toMatchObject({ vote: { vote: 'accept' } });
  });

  it('that never ends the handshake is silence too, is let go, and hinders no close', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const [sent, failures]: [string[], unknown[]] = [[], []];
      let letGo = 0;
      link = mcpParticipants({
        credentials: { token: async ({ scope }) => ({ accessToken: 'cc-token', scope, expiresAt: 9e9 }) },
        fetch: async (_, init) => {
          const { method, id } = JSON.parse(String(init?.body)) as { method: string; id?: number };
          sent.push(method);
          const serverInfo = { name: 'orders', version: '1' };
          const result = { protocolVersion: '2025-11-25', capabilities: {}, serverInfo };
          if (method === 'initialize') return Response.json({ jsonrpc: '2.0', id, result });
          return new Promise((_resolve, reject) => {
            init?.signal?.addEventListener('abort', () => {
              letGo += 1;
              reject(new Error('aborted'));
            });
          });
        },
        onFailure: (error) => failures.push(error),
      });
      for (const round of [1, 2]) {
        const told = link.tell(prepare, ENDPOINT);
        await vi.waitFor(() => expect(sent.filter((method) => method === 'notifications/initialized')).toHaveLength(round));
        await vi.advanceTimersByTimeAsync(5000);
        expect(await told).toBeUndefined();
        expect([failures.length, letGo]).toEqual([round, round]);
      }
      await link.close();
    } finally {
      vi.useRealTimers();
    }
  });

  it('that cannot be reached is silence', async () => {
    const { failures } = participant({});
    expect(await link.tell(prepare, { ...ENDPOINT, url: 'https://elsewhere.example/mcp' })).toBeUndefined();
    expect(failures).toHaveLength(1);
  });
});
