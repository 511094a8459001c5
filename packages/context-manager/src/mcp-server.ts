import { HmcpError, MANAGER_METHODS } from '@hmcp/core';
import { interceptConnect, scrub, wireError } from '@hmcp/server';
import {
  type AuthInfo,
  type CallToolResult,
  CLIENT_CAPABILITIES_META_KEY,
  type ClientCapabilities,
  type InputRequiredResult,
  inputRequired,
  type JSONRPCMessage,
  type McpServerFactory,
  ProtocolError,
  Server,
  type ServerContext,
  type Tool,
  type Transport,
} from '@modelcontextprotocol/server';
import * as z from 'zod';
import type { Caller } from './office.js';
import type { Conversation } from './switching.js';
import { TOOLS, type Traffic, type TrafficAnswer } from './traffic.js';

/** What the gate verified of one request. */
export interface Passage {
  readonly caller: Caller;
  /** `X-HMCP-Patient`, well-formed. */
  readonly header?: string | undefined;
}

/** The one input request of a dialog. */
const CONFIRM = 'confirm';
const MAX_STATE = 128;

/**
 * Manager traffic as an MCP server: four tools and the vendor methods, nothing else. A refusal is a JSON-RPC error, never a tool's
 * `isError`, which a model would try to repair.
 * @param passages what the gate verified, by the object the SDK carries it in
 * @see protocol sections 4 and 6
 */
export function managerServer(traffic: Traffic, passages: WeakMap<AuthInfo, Passage>): McpServerFactory {
  return ({ era }) => {
    const server = new Server({ name: 'hmcp-context-manager', version: '0.1.0' }, { capabilities: { tools: {} } });
    interceptConnect(server, withFixedErrors);
    const passage = (context: ServerContext): Passage => {
      const found = context.http?.authInfo && passages.get(context.http.authInfo);
      if (!found) throw new ProtocolError(-32603, 'Internal error');
      return found;
    };
    server.setRequestHandler('tools/list', () => ({
      tools: Object.entries(TOOLS).map(([name, { args, description }]) => ({
        name,
        description,
        inputSchema: JSON.parse(JSON.stringify(z.toJSONSchema(args, { io: 'input' }))) as Tool['inputSchema'],
      })),
    }));
    server.setRequestHandler('tools/call', async ({ params }, context) => {
      const { caller, header } = passage(context);
      const result = await traffic.tool(params.name, params.arguments, caller, header, conversationOf(context, era));
      return answerOf(result);
    });
    for (const method of Object.values(MANAGER_METHODS)) {
      server.setRequestHandler(method, { params: z.looseObject({}) }, async (params, context) => {
        const { caller, header } = passage(context);
        const answer = await traffic.method(method, params, caller, header);
        if (answer.is === 'dialog') throw new TypeError('only a tool may ask the person');
        return { ...answer.result };
      });
    }
    return server;
  };
}

function conversationOf(context: ServerContext, era: 'legacy' | 'modern'): Conversation {
  const { mcpReq } = context;
  const envelope = (mcpReq.envelope ?? {}) as Readonly<Record<string, unknown>>;
  const { elicitation: declared } = (envelope[CLIENT_CAPABILITIES_META_KEY] ?? {}) as ClientCapabilities;
  // A bare `elicitation: {}` means forms.
  const canAsk =
    era === 'modern' && declared !== undefined && (declared.form !== undefined || Object.keys(declared).length === 0);
  const nonce: unknown = mcpReq.requestState();
  const response = mcpReq.inputResponses?.[CONFIRM];
  if (typeof nonce !== 'string' || nonce.length > MAX_STATE || response === undefined) return { canAsk };
  return { canAsk, answered: { nonce, response } };
}

function answerOf(answer: TrafficAnswer): CallToolResult | InputRequiredResult {
  if (answer.is === 'dialog') {
    const { message, requestedSchema } = answer.dialog;
    const schema = { ...requestedSchema, properties: { ...requestedSchema.properties } };
    return inputRequired({
      inputRequests: { [CONFIRM]: inputRequired.elicit({ message, requestedSchema: schema }) },
      requestState: answer.nonce,
    });
  }
  return { content: [{ type: 'text', text: JSON.stringify(answer.result) }], structuredContent: { ...answer.result } };
}

/** Errors leave with a fixed sentence: an SDK's own may repeat what was sent. */
function withFixedErrors(transport: Transport): Transport {
  const send = transport.send.bind(transport);
  const scrubbed: Transport['send'] = (message, options) => {
    if (!('error' in message)) return send(message, options);
    const refusal = HmcpError.from(message.error);
    const error = refusal ? wireError(refusal) : scrub(message.error);
    return send({ ...message, error } as JSONRPCMessage, options);
  };
  Object.defineProperty(transport, 'send', { value: scrubbed, writable: false, configurable: false });
  return transport;
}
