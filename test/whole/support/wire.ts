import { readFile } from 'node:fs/promises';

/** One exchange, as a proxy of the recording world wrote it. */
export interface Exchange {
  readonly to: string;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly request: string;
  readonly response: string;
}

/** What must name nobody on the wire. */
export interface Exposed {
  readonly errors: { readonly where: string; readonly text: string }[];
  readonly metas: { readonly where: string; readonly text: string }[];
  /** Envelopes: the one part of `_meta` that names the patient. */
  readonly envelopes: string[];
}

const CONTEXT = 'dev.hmcp/context';

/** Reads a capture. */
export async function exchanges(file: string): Promise<Exchange[]> {
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line) as Exchange);
}

/** Error bodies and errors of JSON-RPC, and every `_meta` without the envelope of a request. */
export function exposed(all: readonly Exchange[]): Exposed {
  const found: Exposed = { errors: [], metas: [], envelopes: [] };
  for (const { to, path, status, request, response } of all) {
    const route = `${to} ${path.split('?')[0]?.replace(/\/(Patient|Observation|MedicationRequest)\/.*/, '/$1/…')}`;
    // A page of the portal is shown to the person whatever its status; what a program reads is JSON.
    if (status >= 400 && !response.startsWith('<!doctype')) found.errors.push({ where: `${route} ${status}`, text: response });
    for (const message of messages(response)) {
      if (isObject(message) && message.error !== undefined)
        found.errors.push({ where: `${route} JSON-RPC error`, text: JSON.stringify(message.error) });
      for (const meta of metasOf(message)) found.metas.push({ where: `${route} response _meta`, text: JSON.stringify(meta) });
    }
    for (const message of messages(request))
      for (const { [CONTEXT]: envelope, ...rest } of metasOf(message)) {
        if (envelope !== undefined) found.envelopes.push(JSON.stringify(envelope));
        found.metas.push({ where: `${route} request _meta`, text: JSON.stringify(rest) });
      }
  }
  return found;
}

/** JSON of a body: one document, or the data of server-sent events. */
function messages(body: string): unknown[] {
  const texts = body.includes('data: ')
    ? body
        .split('\n')
        .filter((line) => line.startsWith('data: '))
        .map((line) => line.slice(6))
    : [body];
  return texts.flatMap((text) => {
    try {
      return [JSON.parse(text) as unknown];
    } catch {
      return [];
    }
  });
}

function metasOf(node: unknown): Record<string, unknown>[] {
  if (Array.isArray(node)) return node.flatMap(metasOf);
  if (!isObject(node)) return [];
  const { _meta, ...others } = node;
  return [...(isObject(_meta) ? [_meta] : []), ...Object.values(others).flatMap(metasOf)];
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
