import { META, SealClaims, SealedEnvelope } from '@hmcp/core';
import { type CallToolResult, createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import { decodeJwt } from 'jose';
import * as z from 'zod';
import { observation } from './world.js';

/** One call as it arrived at the server. */
export interface SealedCall {
  readonly envelope: SealedEnvelope;
  readonly seal: SealClaims;
  readonly token: string;
}

/** What is wrong with the binding of an answer. */
export type BindingFault = 'sid' | 'epoch' | 'pk' | 'intent' | 'by' | 'plain' | 'none';

export interface SealedPeer {
  readonly url: string;
  readonly fetch: (request: Request) => Promise<Response>;
  readonly calls: SealedCall[];
  /** Awaited before a call is answered; gives what to answer instead of the usual. */
  onCall: (call: SealedCall) => unknown;
  fault: BindingFault | undefined;
  /** Answers given to the socket, also after the caller stopped listening. */
  answered: number;
  close(): Promise<void>;
}

/** An HMCP-like server in this process, on the bare SDK; it believes every seal. */
export function sealedPeer(url: string): SealedPeer {
  const peer: { -readonly [K in keyof SealedPeer]: SealedPeer[K] } = {
    url,
    fetch: async () => new Response(null, { status: 500 }),
    calls: [],
    onCall: () => undefined,
    fault: undefined,
    answered: 0,
    close: async () => undefined,
  };
  const tokens = new WeakMap<object, string>();
  const mcp = createMcpHandler(() => {
    const server = new McpServer({ name: 'labs', version: '1.0.0' });
    const input = z.object({ category: z.string().optional() });
    server.registerTool('list-results', { inputSchema: input }, async (_, ctx) => {
      const envelope = SealedEnvelope.parse(ctx.mcpReq._meta?.[META.context]);
      const seal = SealClaims.parse(decodeJwt(envelope.seal));
      const token = ctx.http?.authInfo?.token ?? '';
      const call = { envelope, seal, token };
      peer.calls.push(call);
      const said = await peer.onCall(call);
      peer.answered += 1;
      const structuredContent = said ?? { results: [observation(seal.patient)] };
      const content = [{ type: 'text', text: JSON.stringify(structuredContent) }];
      return { structuredContent, content, _meta: binding(peer, call) } as CallToolResult;
    });
    return server;
  });
  peer.fetch = (request) => {
    const token = request.headers.get('authorization')?.slice('Bearer '.length) ?? '';
    const authInfo = { token, clientId: 'portal', scopes: [] };
    tokens.set(authInfo, token);
    return mcp.fetch(request, { authInfo });
  };
  peer.close = () => mcp.close();
  return peer;
}

function binding({ fault, url }: SealedPeer, { envelope, seal }: SealedCall): Record<string, unknown> {
  if (fault === 'none') return {};
  const pk = fault === 'pk' ? 'x'.repeat(43) : seal.pk;
  const session = {
    sid: fault === 'sid' ? 'ctx_other' : seal.sid,
    epoch: fault === 'epoch' ? seal.epoch + 1 : seal.epoch,
  };
  return {
    [META.context]: {
      version: '1',
      ...(fault === 'plain' ? { pkScope: 'intent' } : session),
      pk,
      intent: { id: fault === 'intent' ? 'another' : envelope.intent.id },
      by: fault === 'by' ? 'https://else.example/mcp' : url,
      patients: [pk],
    },
  };
}
