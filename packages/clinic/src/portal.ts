import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { SwitchAnswer, SwitchDialog, SwitchReport } from '@hmcp/agent';
import { AuthorityUnavailable, type Grant, type SmartClient, smartClient } from '@hmcp/auth';
import { HmcpError } from '@hmcp/core';
import type { Banner } from './banner.js';
import { type Deployment, deploy, type Listening, type PartyConfig } from './deployment.js';
import { type PortalView, portalPage, STYLE_POLICY } from './portal-page.js';
import { Visit, VisitEnded } from './visit.js';

/** Scopes the portal asks for at launch: what its agents need for one patient. */
export const PORTAL_SCOPE =
  'launch/patient openid fhirUser offline_access patient/hmcp:read patient/hmcp:write patient/Patient.rs patient/Observation.rs patient/MedicationRequest.rs hmcp:context.switch hmcp:context.participate';

/** A sign-in under way. `secret` is the cookie of the browser that began it, `visit` the visit it is to switch. */
interface Login {
  readonly secret: string;
  readonly begun: number;
  readonly visit?: string | undefined;
  finish(callbackUrl: string): Promise<Grant>;
}

/** An answer of the portal to its browser. */
interface Answer {
  readonly status: number;
  readonly body?: string;
  readonly type?: string;
  readonly location?: string;
  readonly cookies?: readonly string[];
}

/** Serves the portal as a party: the place where a person signs in, picks a patient and asks. */
export async function servePortal(config: PartyConfig): Promise<Listening> {
  const deployment = await deploy(config);
  const portal = new Portal(deployment);
  const http = createServer((request, response) => {
    void portal.answer(request).then(
      ({ status, body, type, location, cookies = [] }) => {
        response.writeHead(status, {
          'cache-control': 'no-store',
          'content-security-policy': `default-src 'none'; style-src ${STYLE_POLICY}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`,
          'content-type': type ?? 'text/html; charset=utf-8',
          'referrer-policy': 'same-origin',
          'x-content-type-options': 'nosniff',
          ...(location === undefined ? {} : { location }),
          ...(cookies.length === 0 ? {} : { 'set-cookie': [...cookies] }),
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
      deployment.ending();
      http.closeAllConnections();
      http.close();
      await portal.close();
      await deployment.close();
    },
  };
}

const MOST_OPEN = 100;
const LOGIN_SECONDS = 600;
const MOST_FORM_BYTES = 16_384;
/** What a page of an open chart may send. */
const FORMS: ReadonlySet<string> = new Set(['/ask', '/results', '/draft', '/sign', '/confirm', '/look', '/close']);
/** Of these, what it may send while a switch is not over. */
const ALWAYS: ReadonlySet<string> = new Set(['/confirm', '/look', '/close']);
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const SAY = {
  unknown: 'There is no such page.',
  signInFirst: 'Nobody is signed in here. Sign in to begin.',
  ended: 'The sign-in has ended, and the chart was closed. Sign in again to go on.',
  otherPage:
    'The page you came from is of a chart that is no longer open here. Nothing was asked. The chart that is open now is shown above.',
  notBegun: 'This sign-in was not begun in this browser, or too long ago. Nothing was opened.',
  refused: 'The sign-in was not granted. Nothing was opened.',
  unreadable: 'The chart could not be read, so nobody could say whose it is. Nothing was opened.',
  unavailable: 'The authorization server does not answer. Nothing was asked; try again.',
  tooLong: 'The form was too long. Nothing was asked.',
  switchOver: 'That switch is over. The chart that is open is shown above.',
  committed: 'You are now on the patient shown above.',
  stayed: 'You are still on the patient shown above. Nothing was lost.',
  pending: 'Nobody can say yet whether the switch happened. Nothing was asked.',
  decideFirst: 'A switch to another patient is not over. Nothing was asked.',
  notOpened: 'The session could not be opened. Nothing is shown; sign in again.',
} as const;

class Portal {
  readonly #deployment: Deployment;
  readonly #smart: SmartClient;
  readonly #origin: string;
  readonly #secure: string;
  readonly #managed: { readonly manager?: string; readonly participants?: readonly string[] };
  readonly #logins = new Map<string, Login>();
  /** By the cookie of the browser. */
  readonly #visits = new Map<string, Visit>();
  readonly #untold = new Map<string, Sentence>();

  constructor(deployment: Deployment) {
    this.#deployment = deployment;
    const { config } = deployment;
    const [manager] = config.managers;
    this.#managed = manager === undefined ? {} : { manager: manager.resource, participants: config.participants };
    const url = new URL(config.publicUrl);
    this.#origin = url.origin;
    this.#secure = url.protocol === 'https:' ? '; Secure' : '';
    this.#smart = smartClient({
      fhirServer: config.fhirServer,
      clientId: deployment.client.clientId,
      redirectUri: `${config.publicUrl}/callback`,
      privateKey: deployment.client.privateKey,
    });
  }

  async answer(request: IncomingMessage): Promise<Answer> {
    const target = request.url ?? '/';
    const url = URL.canParse(target, this.#origin) ? new URL(target, this.#origin) : undefined;
    const key = cookie(request, 'visit');
    const visit = key === undefined ? undefined : this.#visits.get(key);
    const json = request.headers.accept === 'application/json';
    if (url === undefined) return say(404, SAY.unknown, { json });
    if (request.method === 'GET' && url.pathname === '/')
      return json && visit ? jsonAnswer(200, state(visit)) : page(200, portalPage({ visit, ...this.#news(key) }));
    if (request.method === 'GET' && url.pathname === '/launch') return this.#launch();
    if (request.method === 'GET' && url.pathname === '/switch')
      return visit ? this.#launch(key) : say(401, SAY.signInFirst, { json });
    if (request.method === 'GET' && url.pathname === '/callback') return this.#callback(url, request, key);
    const { origin } = request.headers;
    if (request.method !== 'POST' || !FORMS.has(url.pathname) || (origin !== undefined && origin !== this.#origin))
      return say(404, SAY.unknown, { visit, json });
    if (visit === undefined || key === undefined) return say(401, SAY.signInFirst, { json });
    const form = await readForm(request);
    if (form === undefined) return say(413, SAY.tooLong, { visit, json });
    // Two tabs share a cookie: what is asked on a page is asked about the chart that page showed, or not at all.
    if (form.get('page') !== visit.page) return say(409, SAY.otherPage, { visit, json });
    if ((visit.switching || visit.undecided) && !ALWAYS.has(url.pathname))
      return say(409, visit.undecided ? SAY.pending : SAY.decideFirst, { visit, json });
    switch (url.pathname) {
      case '/look':
        await visit.look();
        return { status: 303, location: '/' };
      case '/close':
        return this.#close(key);
      case '/confirm':
        return this.#confirm(visit, form, json);
      default:
        return this.#ask(visit, key, url.pathname, form, json);
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#visits.values()].map((visit) => visit.close()));
  }

  /** Each sign-in has a cookie of its own, new, whatever the browser brought. */
  async #launch(visit?: string): Promise<Answer> {
    let begun: Awaited<ReturnType<SmartClient['begin']>>;
    try {
      begun = await this.#smart.begin({ launch: 'patient', scope: PORTAL_SCOPE });
    } catch {
      return say(503, SAY.unavailable, {});
    }
    if (this.#logins.size >= MOST_OPEN) this.#logins.delete(this.#logins.keys().next().value ?? '');
    const secret = crypto.randomUUID();
    this.#logins.set(begun.state, { secret, begun: Date.now(), visit, finish: begun.finish });
    const set = `${loginCookie(begun.state)}=${secret}; Path=/callback; Max-Age=${LOGIN_SECONDS}; HttpOnly; SameSite=Lax${this.#secure}`;
    return { status: 302, location: begun.url, cookies: [set] };
  }

  async #callback(url: URL, request: IncomingMessage, key: string | undefined): Promise<Answer> {
    const state = url.searchParams.get('state') ?? '';
    const login = this.#logins.get(state);
    const late = login !== undefined && Date.now() - login.begun > LOGIN_SECONDS * 1000;
    if (login === undefined || late || login.secret !== cookie(request, loginCookie(state))) return say(400, SAY.notBegun, {});
    this.#logins.delete(state);
    const forget = `${loginCookie(state)}=; Path=/callback; Max-Age=0; HttpOnly; SameSite=Lax${this.#secure}`;
    const own = (): Visit | undefined => (key === undefined || key !== login.visit ? undefined : this.#visits.get(key));
    let grant: Grant;
    try {
      grant = await login.finish(url.href);
    } catch {
      return { ...say(403, SAY.refused, { visit: own() }), cookies: [forget] };
    }
    const banner = await readBanner(grant).catch(() => undefined);
    if (banner === undefined) {
      await grant.revoke().catch(() => undefined);
      return { ...say(502, SAY.unreadable, { visit: own() }), cookies: [forget] };
    }
    if (login.visit !== undefined) {
      const visit = own();
      if (visit === undefined || key === undefined) {
        await grant.revoke().catch(() => undefined);
        return { ...say(401, SAY.signInFirst, {}), cookies: [forget] };
      }
      const step = await visit.beginSwitch(grant, banner);
      if ('report' in step) this.#untold.set(key, sentence(step.report));
      return { status: 303, location: '/', cookies: [forget] };
    }
    // A new sign-in gets a new visit; the old one of this browser, and its patient, end here.
    await this.#end(key);
    if (this.#visits.size >= MOST_OPEN) await this.#end(this.#visits.keys().next().value);
    const opened = await Visit.open({ agent: this.#deployment.agent, grant, banner, ...this.#managed }).catch(() => undefined);
    if (opened === undefined) {
      await grant.revoke().catch(() => undefined);
      return { ...say(503, SAY.notOpened, {}), cookies: [forget] };
    }
    const id = crypto.randomUUID();
    this.#visits.set(id, opened);
    const set = `visit=${id}; Path=/; HttpOnly; SameSite=Lax${this.#secure}`;
    return { status: 303, location: '/', cookies: [forget, set] };
  }

  /** The person's answer to the dialog of a switch. */
  async #confirm(visit: Visit, form: URLSearchParams, json: boolean): Promise<Answer> {
    const { switch: id = '', round = '', page: _, do: verb, ...typed } = Object.fromEntries(form);
    const answer = verb === 'confirm' ? readAnswer(visit.switching?.dialog, typed) : 'decline';
    const step = await visit.answerSwitch(id, Number(round), answer);
    if (json)
      return jsonAnswer(
        step === undefined ? 409 : 200,
        step && 'report' in step ? { report: told(step.report), ...state(visit) } : state(visit),
      );
    if (step === undefined) return say(409, SAY.switchOver, { visit });
    if ('dialog' in step) return page(200, portalPage({ visit }));
    return page(200, portalPage({ visit, ...sentence(step.report) }));
  }

  /** What the person has not been told yet of a switch that ended. */
  #news(key: string | undefined): Sentence | undefined {
    const told = this.#untold.get(key ?? '');
    this.#untold.delete(key ?? '');
    return told;
  }

  async #ask(visit: Visit, key: string, path: string, form: URLSearchParams, json: boolean): Promise<Answer> {
    const reason = form.get('reason') ?? '';
    const field = (name: string): string => form.get(name) ?? '';
    try {
      if (path === '/results') return jsonAnswer(200, await visit.results(field('laboratory')));
      if (path === '/draft')
        return await this.#drafted(visit, field('kind') === 'medication' ? 'medication' : 'service', field('text'), json);
      if (path === '/sign') return this.#signed(visit, await visit.sign(field('draft')), json);
      const assessment = await visit.ask({ reason, laboratory: form.get('laboratory') || undefined });
      return json ? jsonAnswer(200, assessment) : page(200, portalPage({ visit, reason, assessment }));
    } catch (error) {
      if (error instanceof VisitEnded) {
        await this.#end(key);
        return say(401, SAY.ended, { json });
      }
      if (error instanceof AuthorityUnavailable) return say(503, SAY.unavailable, { visit, json });
      const refusal = HmcpError.from(error);
      if (json) return jsonAnswer(409, { error: refusal ? { code: refusal.code, ...refusal.data } : { code: -32603 } });
      return page(409, portalPage({ visit, reason, refusal: refusal ?? 'failed' }));
    }
  }

  async #drafted(visit: Visit, kind: 'medication' | 'service', text: string, json: boolean): Promise<Answer> {
    const drafted = await visit.draft({ kind, text });
    return json ? jsonAnswer(200, drafted) : page(200, portalPage({ visit, drafted: { handle: drafted.draft, text } }));
  }

  #signed(visit: Visit, signed: { order: string }, json: boolean): Answer {
    return json ? jsonAnswer(200, signed) : page(200, portalPage({ visit, done: 'The order is signed.' }));
  }

  async #close(key: string): Promise<Answer> {
    await this.#end(key);
    return { status: 303, location: '/', cookies: [`visit=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax${this.#secure}`] };
  }

  async #end(key: string | undefined): Promise<void> {
    const visit = key === undefined ? undefined : this.#visits.get(key);
    if (key === undefined || visit === undefined) return;
    this.#visits.delete(key);
    this.#untold.delete(key);
    await visit.close();
  }
}

/** What a program sees of a visit: which page is open, its epoch, and the fields of a dialog; nobody's name. */
function state({ page: open, session, switching }: Visit): object {
  const dialog = switching?.dialog;
  return {
    page: open,
    epoch: session.epoch,
    ...(switching && dialog ? { switching: { id: switching.id, round: dialog.round, fields: dialog.fields } } : {}),
  };
}

/** What the person typed, as each field of the dialog has it; fields it does not have are left out. */
function readAnswer(dialog: SwitchDialog | undefined, typed: Readonly<Record<string, string>>): SwitchAnswer {
  const values = (dialog?.fields ?? []).map(({ name, kind }): [string, string | number | boolean] => {
    const value = typed[name] ?? '';
    return [name, kind === 'yes-no' ? value === 'true' : kind === 'number' ? Number(value) : value.trim()];
  });
  return Object.fromEntries(values);
}

type Sentence = Pick<PortalView, 'done' | 'message'>;

function sentence({ result }: SwitchReport): Sentence {
  if (result === 'committed') return { done: SAY.committed };
  return { message: result === 'pending' ? SAY.pending : SAY.stayed };
}

/** The end of a switch without what a callback threw. */
function told({ error, ...report }: SwitchReport): object {
  const refusal = HmcpError.from(error);
  return { ...report, ...(refusal ? { code: refusal.code, check: refusal.check } : {}) };
}

/** Name and birth date of the patient the grant is for; read with the grant's own token. @throws when they cannot be read */
async function readBanner(grant: Grant): Promise<Banner> {
  const response = await fetch(`${grant.fhirServer}/Patient/${grant.patient}`, {
    headers: { Authorization: `Bearer ${grant.accessToken}`, Accept: 'application/fhir+json' },
    signal: AbortSignal.timeout(10_000),
  });
  if (!response.ok) throw new TypeError('the record cannot be read');
  const patient = (await response.json()) as { name?: { given?: string[]; family?: string }[]; birthDate?: string };
  const [name] = patient.name ?? [];
  return { name: [...(name?.given ?? []), name?.family ?? ''].join(' ').trim(), birthDate: patient.birthDate ?? '' };
}

function loginCookie(state: string): string {
  return `login-${state.replace(/[^A-Za-z0-9]/g, '').slice(0, 12)}`;
}

function cookie(request: IncomingMessage, name: string): string | undefined {
  for (const pair of (request.headers.cookie ?? '').split(';')) {
    const at = pair.indexOf('=');
    if (pair.slice(0, at).trim() === name && UUID.test(pair.slice(at + 1).trim())) return pair.slice(at + 1).trim();
  }
  return undefined;
}

/** The fields of a form; `undefined` when there is too much of it. */
async function readForm(request: IncomingMessage): Promise<URLSearchParams | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MOST_FORM_BYTES) return undefined;
    chunks.push(chunk);
  }
  return new URLSearchParams(Buffer.concat(chunks).toString('utf8'));
}

function page(status: number, body: string): Answer {
  return { status, body };
}

function say(status: number, message: string, { visit, json }: { visit?: Visit | undefined; json?: boolean }): Answer {
  return json ? jsonAnswer(status, { error: { code: status, message } }) : page(status, portalPage({ visit, message }));
}

function jsonAnswer(status: number, value: object): Answer {
  return { status, body: JSON.stringify(value), type: 'application/json' };
}
