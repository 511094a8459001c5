/** What a request gets that is written by hand, past every client library. */
export interface RawAnswer {
  readonly status: number;
  readonly text: string;
  readonly result?: { readonly structuredContent?: unknown } | undefined;
  readonly error?:
    | { readonly code: number; readonly data?: { readonly check?: string; readonly by?: string; readonly hop?: number } }
    | undefined;
}

/** Sends one `tools/call` of MCP revision 2026-07-28 as bytes on the wire: what a hostile or broken caller can do. */
export async function rawCall(options: {
  readonly url: string;
  readonly token?: string | undefined;
  readonly tool: string;
  readonly args?: object | undefined;
  readonly envelope?: object | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
}): Promise<RawAnswer> {
  const { url, token, tool, args = {}, envelope, headers = {} } = options;
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientInfo': { name: 'story', version: '1.0.0' },
    'io.modelcontextprotocol/clientCapabilities': {},
    ...(envelope === undefined ? {} : { 'dev.hmcp/context': envelope }),
  };
  const response = await fetch(url, {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json',
      Accept: 'application/json, text/event-stream',
      'MCP-Protocol-Version': '2026-07-28',
      'Mcp-Method': 'tools/call',
      'Mcp-Name': tool,
      ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
      ...headers,
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: tool, arguments: args, _meta } }),
    signal: AbortSignal.timeout(20_000),
  });
  const text = await response.text();
  return { status: response.status, text, ...messageOf(text) };
}

function messageOf(text: string): Pick<RawAnswer, 'result' | 'error'> {
  try {
    const { result, error } = JSON.parse(text) as Pick<RawAnswer, 'result' | 'error'>;
    return { result, error: typeof error === 'object' ? error : undefined };
  } catch {
    return {};
  }
}
