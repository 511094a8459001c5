import type { IncomingMessage } from 'node:http';
import { parseScopes } from '@hmcp/core';
import type { Context, Interaction, Provider } from 'oidc-provider';
import { type Authority, registrationOf } from './authority.js';
import type { Account } from './config.js';
import { wantsPatient } from './launch.js';
import { type Page, pageHeaders, renderPage } from './page.js';
import { consentPage, errorPage, isOptional, patientPage, signInPage } from './picker.js';

/** Why a person's launch ended without a grant; the `error_description` of `access_denied`. */
export const DENIALS = {
  declined: 'the person did not allow it',
  foreign: 'the patient is not among those of the account',
  nobody: 'the account has no patients',
} as const;

const PATH = /^\/interaction\/([A-Za-z0-9_-]+)$/;
const MOST_BYTES = 16_384;

/** Serves sign-in, patient picker and consent at `/interaction/:uid`; no patient id is ever part of a URL. */
export function interactionPages(
  provider: Provider,
  authority: Authority,
): (ctx: Context, next: () => Promise<void>) => Promise<void> {
  return async (ctx, next) => {
    const uid = PATH.exec(ctx.path)?.[1];
    if (uid === undefined || (ctx.method !== 'GET' && ctx.method !== 'POST')) return next();
    const interaction = await provider.interactionDetails(ctx.req, ctx.res).catch(() => undefined);
    const form = ctx.method === 'POST' ? await readForm(ctx.req) : undefined;
    if (interaction === undefined || interaction.uid !== uid || (ctx.method === 'POST' && form === undefined))
      return show(ctx, errorPage('invalid_request'), undefined, 400);
    const step = new Step(provider, authority, ctx, interaction);
    return interaction.prompt.name === 'login' ? step.signIn(form) : step.launch(form);
  };
}

/** One request of one person's flow. */
class Step {
  readonly #provider: Provider;
  readonly #authority: Authority;
  readonly #ctx: Context;
  readonly #interaction: Interaction;
  readonly #client: string;

  constructor(provider: Provider, authority: Authority, ctx: Context, interaction: Interaction) {
    this.#provider = provider;
    this.#authority = authority;
    this.#ctx = ctx;
    this.#interaction = interaction;
    this.#client = registrationOf(authority, this.#parameter('client_id')).name;
  }

  async signIn(form: URLSearchParams | undefined): Promise<void> {
    const action = form?.get('do');
    if (action === 'deny') return this.#deny('declined');
    const account =
      action === 'sign-in'
        ? this.#authority.directory.signIn(form?.get('username') ?? '', form?.get('password') ?? '')
        : undefined;
    if (account !== undefined) return this.#finish({ login: { accountId: account.username } });
    const failed = form !== undefined;
    return this.#show(signInPage({ action: this.#ctx.path, client: this.#client, failed }), failed ? 400 : 200);
  }

  async launch(form: URLSearchParams | undefined): Promise<void> {
    const username = this.#interaction.session?.accountId;
    const account = username === undefined ? undefined : this.#authority.directory.find(username);
    if (account === undefined) return this.#deny('declined');
    const picks = wantsPatient(parseScopes(this.#parameter('scope')));
    const people = picks ? this.#authority.directory.patientsOf(account.username) : [];
    if (picks && people.length === 0) return this.#deny('nobody');

    const chosen = this.#interaction.result?.launch?.patient;
    const patient = chosen === undefined ? undefined : this.#authority.directory.patient(account.username, chosen);
    const picking = picks && patient === undefined;
    switch (form?.get('do')) {
      case 'deny':
        return this.#deny('declined');
      case 'back':
        return this.#keep({ launch: {} });
      case 'pick':
        return this.#pick(account, form?.get('patient') ?? '', picks);
      case 'allow':
        if (!picking) return this.#allow(account, patient?.id, form?.getAll('scope') ?? []);
    }
    const shared = { action: this.#ctx.path, client: this.#client, signedInAs: account.name };
    return this.#show(
      picking
        ? patientPage({ ...shared, people, search: form?.get('search') ?? '' })
        : consentPage({ ...shared, patient, scope: this.#parameter('scope') }),
    );
  }

  /** The list shown is no permission: whoever is submitted is looked up again. */
  async #pick(account: Account, id: string, picks: boolean): Promise<void> {
    if (!picks || this.#authority.directory.patient(account.username, id) === undefined) return this.#deny('foreign');
    return this.#keep({ launch: { patient: id } });
  }

  async #allow(account: Account, patient: string | undefined, ticked: readonly string[]): Promise<void> {
    const granted = parseScopes(this.#parameter('scope')).filter((scope) => !isOptional(scope) || ticked.includes(scope.raw));
    const scope = granted.map(({ raw }) => raw).join(' ');
    if (scope === '') return this.#deny('declined');
    const grant = new this.#provider.Grant({ accountId: account.username, clientId: this.#parameter('client_id') });
    grant.addOIDCScope(scope);
    grant.addResourceScope(this.#parameter('resource'), scope);
    const grantId = await grant.save();
    const { tenant } = this.#authority.config;
    this.#authority.contexts.set(grantId, { username: account.username, patient, tenant });
    return this.#finish({ consent: { grantId } });
  }

  async #keep(result: object): Promise<void> {
    await this.#provider.interactionResult(this.#ctx.req, this.#ctx.res, result);
    this.#redirect(this.#ctx.path);
  }

  async #deny(why: keyof typeof DENIALS): Promise<void> {
    return this.#finish({ error: 'access_denied', error_description: DENIALS[why] });
  }

  async #finish(result: object): Promise<void> {
    this.#redirect(await this.#provider.interactionResult(this.#ctx.req, this.#ctx.res, result));
  }

  #redirect(url: string): void {
    this.#ctx.set({ 'cache-control': 'no-store', 'referrer-policy': 'same-origin' });
    this.#ctx.redirect(url);
    this.#ctx.status = 303;
  }

  #show(page: Page, status = 200): void {
    show(this.#ctx, page, this.#parameter('redirect_uri'), status);
  }

  #parameter(name: string): string {
    const value = this.#interaction.params[name];
    return typeof value === 'string' ? value : '';
  }
}

function show(ctx: Context, page: Page, returnTo: string | undefined, status: number): void {
  ctx.status = status;
  ctx.set(pageHeaders(returnTo));
  ctx.body = renderPage(page);
}

async function readForm(request: IncomingMessage): Promise<URLSearchParams | undefined> {
  if (!request.headers['content-type']?.startsWith('application/x-www-form-urlencoded')) return undefined;
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > MOST_BYTES) return undefined;
    chunks.push(chunk);
  }
  return new URLSearchParams(Buffer.concat(chunks).toString('utf8'));
}
