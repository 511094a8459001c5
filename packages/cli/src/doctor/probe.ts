import { connect } from 'node:tls';
import type { ClockReading } from './clock.js';
import type { Certificate } from './tls.js';

/** How the doctor reaches what it examines; a test hands over its own. */
export interface Probe {
  readonly fetch: (input: string, init: RequestInit) => Promise<Response>;
  /** The certificate at an https address; `undefined` when no handshake came about. */
  readonly certificate: (url: URL) => Promise<Certificate | undefined>;
  /** Wall clock in ms. */
  readonly now: () => number;
  /** Whether files here have modes (POSIX). @default everywhere but on Windows */
  readonly modes?: boolean | undefined;
}

const TIMEOUT_MS = 5000;
const MOST_CHARACTERS = 256 * 1024;

/** What somebody said who was asked for a JSON document. */
export interface Said {
  readonly status: number;
  /** Of a 200 alone; `undefined` when it is no JSON, or does not end. */
  readonly document: unknown;
  readonly clock: ClockReading;
}

/**
 * GETs a JSON document; `undefined` when nobody answers, or only somebody in front of whom is meant (5xx, 429). No redirect is
 * followed.
 */
export async function ask(url: string, { fetch, now }: Pick<Probe, 'fetch' | 'now'>): Promise<Said | undefined> {
  const before = now();
  let response: Response;
  try {
    const init = { headers: { accept: 'application/json, application/fhir+json' }, redirect: 'manual' } as const;
    response = await fetch(url, { ...init, signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch {
    return undefined;
  }
  const { status, headers } = response;
  const clock = { date: headers.get('date'), age: headers.get('age'), at: (before + now()) / 2 };
  const document = await documentOf(response);
  return status >= 500 || status === 429 ? undefined : { status, document, clock };
}

/** The JSON document at an address; `undefined` when it cannot be had. */
export async function readJson(url: string, probe: Pick<Probe, 'fetch' | 'now'>): Promise<unknown> {
  return (await ask(url, probe))?.document;
}

async function documentOf(response: Response): Promise<unknown> {
  const decoder = new TextDecoder();
  let text = '';
  try {
    for await (const piece of response.body ?? []) {
      text += decoder.decode(piece, { stream: true });
      if (text.length > MOST_CHARACTERS) return undefined;
    }
    return response.status === 200 ? (JSON.parse(text) as unknown) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Shakes hands and looks at the certificate; sends nothing. A certificate that is not trusted is looked at, too.
 * @param timeoutMs milliseconds for all of it: who sends a byte now and then is not waited for
 */
export function certificateAt({ hostname, port }: URL, timeoutMs = TIMEOUT_MS): Promise<Certificate | undefined> {
  const host = hostname.replace(/^\[|\]$/g, '');
  return new Promise((resolve) => {
    const servername = /^[\d.]+$|:/.test(host) ? {} : { servername: host };
    const socket = connect({ host, port: Number(port || 443), ...servername, rejectUnauthorized: false });
    const done = (certificate: Certificate | undefined): void => {
      clearTimeout(late);
      socket.destroy();
      resolve(certificate);
    };
    const late = setTimeout(() => done(undefined), timeoutMs);
    socket.once('error', () => done(undefined));
    socket.once('secureConnect', () => {
      const { valid_from: from, valid_to: to } = socket.getPeerCertificate();
      done({ trusted: socket.authorized, validFrom: Date.parse(from), validTo: Date.parse(to) });
    });
  });
}
