import { ExchangeRefused } from '@hmcp/auth';
import { type Check, checkCompartment, coversAll, HmcpError, parseScopes, type Scope } from '@hmcp/core';
import type { RequestScope } from '@hmcp/core/request-scope';
import type { AgentEnv } from './define-agent.js';
import { isJsonObject, type Json } from './message.js';

/** A FHIR resource of one type, as JSON. */
export interface FhirResource<T extends string = string> {
  readonly resourceType: T;
  readonly id: string;
  readonly [member: string]: unknown;
}

/**
 * FHIR access narrowed to the patient in context. A resource of anybody else, a missing one and a refusal are the same
 * 40302; an unreachable server is 50301.
 * @see protocol sections 4 and 7
 */
export interface FhirClient {
  /** Reads one resource. */
  read<T extends string>(type: T, id: string): Promise<FhirResource<T>>;
  /**
   * Searches one type; `patient=` is added here and may not be among the parameters. All pages are fetched (at most 50).
   * An answer that holds another type is refused.
   */
  search<T extends string>(type: T, parameters?: Readonly<Record<string, string | undefined>>): Promise<FhirResource<T>[]>;
}

const TYPE = /^[A-Z][A-Za-z]{1,63}$/;
const ID = /^[A-Za-z0-9\-.]{1,64}$/;
/** Parameters that name or reach a patient, and any chain or modifier: refused before anything is sent. */
const BEYOND = /^(patient|subject|_id|_has|_include|_revinclude|_contained|_list|_filter|_query)$|[.:]/i;
/** For the local audit alone: to the caller they are the same. */
const NOT_OK: ReadonlyMap<number, string> = new Map([
  [401, 'the FHIR server does not accept the token'],
  [403, 'the FHIR server refused'],
  [404, 'the FHIR server knows no such resource'],
]);
const MAX_PAGES = 50;
const TIMEOUT_MS = 30_000;

/** The {@link FhirClient} of one request scope. */
export function scopedFhir(scope: RequestScope, env: AgentEnv): FhirClient {
  const { context, by, hop, token } = scope.facts;
  const base = context.fhirServer.replace(/\/+$/, '');
  const refuse = (code: 40302 | 40903 | 50301, check: Check, reason: string): HmcpError => {
    const intent = scope.facts.envelope.intent.id;
    const error = new HmcpError(code, { by, hop, check, intent }, { reason });
    scope.refusals.push(error);
    return error;
  };

  async function get(url: URL, type: string, interaction: 'r' | 's'): Promise<Json> {
    scope.assertOpen();
    const { tokens } = env;
    if (!tokens) throw refuse(50301, 'peer', 'no token exchange configured');
    const wanted = scopeFor(type, interaction, token?.scopes);
    if (wanted === undefined) throw refuse(40302, 'scope', 'the token of this request does not cover this type of resource');
    let response: Response;
    try {
      const { accessToken } = await tokens.exchange({
        subjectToken: scope.facts.accessToken,
        resource: context.fhirServer,
        scope: wanted,
        sid: token?.sid,
      });
      scope.assertOpen();
      response = await (env.fetch ?? fetch)(url, {
        headers: {
          Authorization: `Bearer ${accessToken}`,
          Accept: 'application/fhir+json',
          ...(scope.facts.traceparent ? { traceparent: scope.facts.traceparent } : {}),
        },
        redirect: 'error',
        signal: AbortSignal.any([scope.signal, AbortSignal.timeout(TIMEOUT_MS)]),
      });
    } catch (error) {
      scope.assertOpen();
      throw error instanceof ExchangeRefused
        ? refuse(40302, error.check, error.reason)
        : refuse(50301, 'peer', 'the FHIR server or its authority did not answer');
    }
    if (response.status >= 500 || response.status === 429) throw refuse(50301, 'peer', 'the FHIR server failed');
    if (!response.ok)
      throw refuse(40302, 'argument', NOT_OK.get(response.status) ?? 'the FHIR server refused or knows no such resource');
    const body: unknown = await response.json().catch(() => undefined);
    scope.assertOpen();
    if (!isJsonObject(body)) throw refuse(50301, 'peer', 'the FHIR server sent no resource');
    return body;
  }

  /** A resource of the patient, or of a directory; tagged, so that no other request can be answered with it. */
  function own(value: unknown): FhirResource {
    if (!isJsonObject(value) || typeof value.resourceType !== 'string')
      throw refuse(50301, 'peer', 'the FHIR server sent no resource');
    if (!checkCompartment(value, { patient: context, sourceBase: context.fhirServer }).inside)
      throw refuse(40302, 'argument', 'the FHIR server answered with another patient');
    return scope.tag(value as FhirResource);
  }

  function nextPage(bundle: Json): URL | undefined {
    const links = Array.isArray(bundle.link) ? bundle.link.filter(isJsonObject) : [];
    const next = links.find(({ relation }) => relation === 'next')?.url;
    if (next === undefined) return undefined;
    const url = typeof next === 'string' && URL.canParse(next, `${base}/`) ? new URL(next, `${base}/`) : undefined;
    if (!url || !(url.href.startsWith(`${base}/`) || url.href.startsWith(`${base}?`)))
      throw refuse(40302, 'argument', 'the next page is on another server');
    return url;
  }

  return {
    async read<T extends string>(type: T, id: string) {
      if (!TYPE.test(type) || !ID.test(id)) throw refuse(40302, 'argument', 'no such resource');
      const resource = own(await get(new URL(`${base}/${type}/${id}`), type, 'r'));
      if (!isOfType(resource, type) || resource.id !== id)
        throw refuse(40302, 'argument', 'the FHIR server answered with another resource');
      return resource;
    },
    async search<T extends string>(type: T, parameters: Readonly<Record<string, string | undefined>> = {}) {
      if (!TYPE.test(type)) throw refuse(40302, 'argument', 'no such type');
      const url = new URL(`${base}/${type}`);
      url.searchParams.set(type === 'Patient' ? '_id' : 'patient', context.patient);
      for (const [name, value] of Object.entries(parameters)) {
        if (BEYOND.test(name)) throw refuse(40903, 'argument', 'a search parameter reaches beyond the patient');
        if (value !== undefined) url.searchParams.append(name, value);
      }
      const found: FhirResource<T>[] = [];
      let next: URL | undefined = url;
      for (let page = 0; next !== undefined; page += 1) {
        // Half of a list of results would look like all of it.
        if (page === MAX_PAGES) throw refuse(50301, 'peer', 'the search has too many pages');
        const bundle: Json = await get(next, type, 's');
        if (bundle.resourceType !== 'Bundle') throw refuse(50301, 'peer', 'the FHIR server sent no Bundle');
        const entries = Array.isArray(bundle.entry) ? bundle.entry.filter(isJsonObject) : [];
        for (const { resource } of entries) {
          const row = isJsonObject(resource) && resource.resourceType !== 'OperationOutcome' ? own(resource) : undefined;
          if (isOfType(row, type)) found.push(row);
        }
        next = nextPage(bundle);
      }
      return found;
    },
  };
}

function isOfType<T extends string>(value: unknown, type: T): value is FhirResource<T> {
  const resource = value as Partial<FhirResource> | null | undefined;
  return resource?.resourceType === type && typeof resource.id === 'string';
}

/** At the level the token in hand acts at: an exchange can only narrow what it holds. `undefined` when no level covers it. */
function scopeFor(type: string, interaction: 'r' | 's', granted: readonly Scope[] | undefined): string | undefined {
  const levels = ['patient', 'user', 'system'].map((level) => `${level}/${type}.${interaction}`);
  return granted === undefined ? levels[0] : levels.find((scope) => coversAll(granted, parseScopes(scope)));
}
