import { checkCompartment, HmcpError } from '@hmcp/core';
import type { RequestScope } from '@hmcp/core/request-scope';
import type { AgentEnv } from './define-agent.js';

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
/** Parameters that reach beyond the patient: refused before anything is sent. */
const BEYOND = /^(patient|subject|_has|_include|_revinclude|_contained|_list|_filter|_query)$|[.:]/;
const MAX_PAGES = 50;

/** The {@link FhirClient} of one request scope. */
export function scopedFhir(scope: RequestScope, env: AgentEnv): FhirClient {
  const { context, by, hop } = scope.facts;
  const base = context.fhirServer;
  const refuse = (code: 40302 | 40903 | 50301, check: 'peer' | 'argument', reason: string): HmcpError => {
    const error = new HmcpError(code, { by, hop, check }, { reason });
    scope.refusals.push(error);
    return error;
  };

  async function get(url: URL, smartScope: string): Promise<unknown> {
    scope.assertOpen();
    if (!env.tokens) throw refuse(50301, 'peer', 'no token exchange configured');
    let response: Response;
    try {
      const { accessToken } = await env.tokens.exchange({
        subjectToken: scope.facts.accessToken,
        resource: base,
        scope: smartScope,
      });
      response = await (env.fetch ?? fetch)(url, {
        headers: {
          Authorization: `Bearer ${accessToken}`,
          Accept: 'application/fhir+json',
          ...(scope.facts.traceparent ? { traceparent: scope.facts.traceparent } : {}),
        },
        redirect: 'error',
        signal: AbortSignal.any([scope.signal, AbortSignal.timeout(30_000)]),
      });
    } catch (error) {
      scope.assertOpen();
      throw (error as { name?: string } | undefined)?.name === 'ExchangeRefused'
        ? refuse(40302, 'peer', 'the token exchange was refused')
        : refuse(50301, 'peer', 'the FHIR server or its authority did not answer');
    }
    if (response.status >= 500 || response.status === 429) throw refuse(50301, 'peer', 'the FHIR server failed');
    if (!response.ok) throw refuse(40302, 'peer', 'the FHIR server refused or knows no such resource');
    try {
      return await response.json();
    } catch {
      throw refuse(50301, 'peer', 'the FHIR server sent no JSON');
    }
  }

  function own(value: unknown): void {
    if (!checkCompartment(value, { patient: context, sourceBase: base }).inside)
      throw refuse(40302, 'peer', 'the FHIR server answered with another patient');
  }

  return {
    async read<T extends string>(type: T, id: string) {
      if (!TYPE.test(type) || !ID.test(id)) throw refuse(40302, 'peer', 'no such resource');
      const resource = await get(new URL(`${base}/${type}/${id}`), `patient/${type}.r`);
      own(resource);
      if (!isOfType(resource, type) || resource.id !== id)
        throw refuse(40302, 'peer', 'the FHIR server answered with another resource');
      return resource;
    },
    async search<T extends string>(type: T, parameters: Readonly<Record<string, string | undefined>> = {}) {
      if (!TYPE.test(type)) throw refuse(40302, 'peer', 'no such type');
      const url = new URL(`${base}/${type}`);
      url.searchParams.set(type === 'Patient' ? '_id' : 'patient', context.patient);
      for (const [name, value] of Object.entries(parameters)) {
        if (BEYOND.test(name)) throw refuse(40903, 'argument', 'a search parameter reaches beyond the patient');
        if (value !== undefined) url.searchParams.append(name, value);
      }
      const found: FhirResource<T>[] = [];
      let next: URL | undefined = url;
      for (let page = 0; next !== undefined && page < MAX_PAGES; page++) {
        const bundle = (await get(next, `patient/${type}.s`)) as {
          entry?: { resource?: { resourceType?: unknown } }[];
          link?: { relation: string; url: string }[];
        };
        for (const { resource } of bundle.entry ?? []) {
          if (resource === undefined || resource.resourceType === 'OperationOutcome') continue;
          own(resource);
          if (!isOfType(resource, type)) throw refuse(40302, 'peer', 'the FHIR server answered with another type');
          found.push(resource);
        }
        const following = bundle.link?.find(({ relation }) => relation === 'next')?.url;
        next = following === undefined ? undefined : new URL(following, `${base}/`);
        if (next !== undefined && !next.href.startsWith(`${base}/`))
          throw refuse(40302, 'peer', 'the next page is on another server');
      }
      return found;
    },
  };
}

function isOfType<T extends string>(value: unknown, type: T): value is FhirResource<T> {
  const resource = value as Partial<FhirResource> | null;
  return typeof resource === 'object' && resource?.resourceType === type && typeof resource.id === 'string';
}
