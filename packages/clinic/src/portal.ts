import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { openSession, type Session } from '@hmcp/agent';
import { type Grant, type SmartClient, smartClient } from '@hmcp/auth';
import { explain, HmcpError } from '@hmcp/core';
import { type Assessment, assess } from './contracts.js';
import type { Deployment, Listening, PartyConfig } from './deployment.js';
import { deploy } from './deployment.js';
import { type Banner, portalPage } from './portal-page.js';

/** Scopes the portal asks for at launch: what its agents need for one patient. */
export const PORTAL_SCOPE =
  'launch/patient openid fhirUser offline_access patient/hmcp:read patient/Patient.rs patient/Observation.rs patient/MedicationRequest.rs';

interface Visit {
  readonly session: Session;
  readonly grant: Grant;
  readonly banner: Banner;
}

interface Login {
  readonly browser: string;
  finish(callbackUrl: string): Promise<Grant>;
}

/** An answer of the portal to its browser. */
interface Answer {
  readonly status: number;
  readonly body?: string;
  readonly type?: string;
  readonly location?: string;
  readonly cookie?: string;
}

/** Serves the portal as a party: the place where a person signs in, picks a patient and asks. */
export async function servePortal(config: PartyConfig): Promise<Listening> {
  const deployment = await deploy(config);
  const portal = new Portal(deployment);
  const http = createServer((request, response) => {
    void portal.answer(request).then(
      ({ status, body, type, location, cookie }) => {
        response.writeHead(status, {
          'cache-control': 'no-store',
          'content-security-policy':
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
          'content-type': type ?? 'text/html; charset=utf-8',
          ...(location === undefined ? {} : { location }),
          ...(cookie === undefined ? {} : { 'set-cookie': `visit=${cookie}; Path=/; HttpOnly; SameSite=Lax` }),
        });
        response.end(body);
      },
      () => {
        response.writeHead(500, { 'content-type': 'text/plain', 'cache-control': 'no-store' });
        response.end('The portal could not answer.');
      },
    );
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  return {
    port: (http.address() as AddressInfo).port,
    async close() {
      http.closeAllConnections();
      http.close();
      await portal.close();
      await deployment.close();
    },
  };
}

const MAX_OPEN = 100;

class Portal {
  readonly #deployment: Deployment;
  readonly #smart: SmartClient;
  readonly #logins = new Map<string, Login>();
  readonly #visits = new Map<string, Visit>();

  constructor(deployment: Deployment) {
    this.#deployment = deployment;
    const { config } = deployment;
    this.#smart = smartClient({
      fhirServer: config.fhirServer,
      clientId: deployment.client.clientId,
      redirectUri: `${config.publicUrl}/callback`,
      privateKey: deployment.client.privateKey,
    });
  }

  async answer(request: IncomingMessage): Promise<Answer> {
    const { config } = this.#deployment;
    const url = new URL(request.url ?? '/', config.publicUrl);
    const browser = /(?:^|;\s*)visit=([A-Za-z0-9-]{36})(?:;|$)/.exec(request.headers.cookie ?? '')?.[1];
    const visit = browser === undefined ? undefined : this.#visits.get(browser);
    if (request.method === 'GET' && url.pathname === '/') return page(200, portalPage({ banner: visit?.banner }));
    if (request.method === 'GET' && url.pathname === '/launch') return this.#launch(browser ?? crypto.randomUUID());
    if (request.method === 'GET' && url.pathname === '/callback') return this.#callback(url, browser);
    const ownOrigin = request.headers.origin === undefined || request.headers.origin === new URL(config.publicUrl).origin;
    if (request.method !== 'POST' || !ownOrigin) return page(404, portalPage({ message: 'There is no such page.' }));
    if (visit === undefined || browser === undefined) return page(401, portalPage({ message: 'Sign in first.' }));
    if (url.pathname === '/ask') return this.#ask(visit, await readForm(request), request.headers.accept === 'application/json');
    if (url.pathname === '/close') {
      this.#visits.delete(browser);
      await visit.session.close();
      await visit.grant.revoke();
      return { status: 303, location: '/' };
    }
    return page(404, portalPage({ message: 'There is no such page.' }));
  }

  async close(): Promise<void> {
    await Promise.all([...this.#visits.values()].map(({ session }) => session.close()));
  }

  async #launch(browser: string): Promise<Answer> {
    const begun = await this.#smart.begin({ launch: 'patient', scope: PORTAL_SCOPE });
    if (this.#logins.size >= MAX_OPEN) this.#logins.delete(this.#logins.keys().next().value ?? '');
    this.#logins.set(begun.state, { browser, finish: begun.finish });
    return { status: 302, location: begun.url, cookie: browser };
  }

  async #callback(url: URL, browser: string | undefined): Promise<Answer> {
    const state = url.searchParams.get('state') ?? '';
    const login = this.#logins.get(state);
    this.#logins.delete(state);
    if (login === undefined || login.browser !== browser)
      return page(400, portalPage({ message: 'This sign-in was not begun here.' }));
    let grant: Grant;
    try {
      grant = await login.finish(url.href);
    } catch {
      return page(403, portalPage({ message: 'The sign-in was refused.' }));
    }
    // A new sign-in gets a new visit; the old one, and its patient, end here.
    const previous = this.#visits.get(browser);
    if (previous) await previous.session.close();
    this.#visits.delete(browser);
    const session = await openSession({ agent: this.#deployment.agent, grant });
    const id = crypto.randomUUID();
    this.#visits.set(id, { session, grant, banner: await readBanner(grant) });
    return { status: 303, location: '/', cookie: id };
  }

  async #ask(visit: Visit, form: URLSearchParams, json: boolean): Promise<Answer> {
    const laboratory = form.get('laboratory');
    try {
      const assessment = await visit.session.call('triage', assess, {
        reason: form.get('reason') ?? '',
        ...(laboratory ? { laboratory } : {}),
      });
      return json ? jsonAnswer(200, assessment) : page(200, portalPage({ banner: visit.banner, assessment }));
    } catch (error) {
      const refusal = HmcpError.from(error);
      const said = refusal ? { code: refusal.code, ...refusal.data } : { code: -32603 };
      return json
        ? jsonAnswer(409, { error: said, explanation: explain(error) })
        : page(409, portalPage({ banner: visit.banner, message: explain(error) }));
    }
  }
}

/** Name and birth date of the patient the grant is for, for the banner; read with the grant's own token. */
async function readBanner(grant: Grant): Promise<Banner> {
  const response = await fetch(`${grant.fhirServer}/Patient/${grant.patient}`, {
    headers: { Authorization: `Bearer ${grant.accessToken}`, Accept: 'application/fhir+json' },
    signal: AbortSignal.timeout(10_000),
  });
  if (!response.ok) return { name: 'Patient in context', birthDate: '' };
  const patient = (await response.json()) as { name?: { given?: string[]; family?: string }[]; birthDate?: string };
  const [name] = patient.name ?? [];
  return { name: [...(name?.given ?? []), name?.family ?? ''].join(' ').trim(), birthDate: patient.birthDate ?? '' };
}

async function readForm(request: IncomingMessage): Promise<URLSearchParams> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > 16_384) break;
    chunks.push(chunk);
  }
  return new URLSearchParams(Buffer.concat(chunks).toString('utf8'));
}

function page(status: number, body: string): Answer {
  return { status, body };
}

function jsonAnswer(status: number, value: Assessment | object): Answer {
  return { status, body: JSON.stringify(value), type: 'application/json' };
}
