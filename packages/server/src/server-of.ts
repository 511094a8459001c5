import { META, PROTOCOL_VERSION } from '@hmcp/core';
import { McpServer, type Server, type Transport } from '@modelcontextprotocol/server';
import type { AgentEnv } from './define-agent.js';
import { isJsonObject, type Json } from './message.js';

/** The server inside whatever a factory made. */
export function serverOf(product: McpServer | Server): Server {
  return product instanceof McpServer ? product.server : product;
}

/** Announces the extension and how much context this server demands. @see protocol section 9 */
export function announce(server: Server, env: AgentEnv): void {
  server.registerCapabilities({ extensions: extensionsOf(env) });
}

/** The answer of `initialize` with the extension announced in it. @see protocol section 9 */
export function announced(result: Json, env: AgentEnv): Json {
  const capabilities = isJsonObject(result.capabilities) ? result.capabilities : {};
  const others = isJsonObject(capabilities.extensions) ? capabilities.extensions : {};
  return { ...result, capabilities: { ...capabilities, extensions: { ...others, ...extensionsOf(env) } } };
}

function extensionsOf(env: AgentEnv) {
  return { [META.context]: { versions: [PROTOCOL_VERSION], context: env.context ?? 'token' } };
}

/** Replaces `connect` of one instance, so that every transport it is ever connected to is instrumented first. */
export function interceptConnect(server: Server, instrument: (transport: Transport) => Transport): void {
  const connect = server.connect.bind(server);
  Object.defineProperty(server, 'connect', {
    value: (transport: Transport) => connect(instrument(transport)),
    writable: false,
    configurable: false,
  });
}
