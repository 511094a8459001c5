import { base64url, type JWK } from 'jose';
import { type Fetch, postForm } from './authority.js';
import { fingerprint } from './bounded-cache.js';
import { checkClientKey, clientAssertion, type Random, secureRandom } from './client-assertion.js';
import { type AuthorizationServerMetadata, DiscoveryError, discover } from './discovery.js';
import { createGrants, type Grant, oauthError, SmartError } from './grant.js';
import { remoteKeySet } from './jwks.js';
import { secureUrl } from './secure-url.js';

/** Options of {@link smartClient}. */
export interface SmartClientOptions {
  /** FHIR base URL; its `smart-configuration` says where to authorize, and it is the audience of the token. */
  readonly fhirServer: string;
  readonly clientId: string;
  /** Exactly as registered. */
  readonly redirectUri: string;
  /** Private JWK with `kid`: a confidential client (`private_key_jwt`); a public one without. */
  readonly privateKey?: JWK | undefined;
  /** Seconds that a token is used whose answer leaves out `expires_in`, which SMART only recommends. @default 300 */
  readonly assumedSeconds?: number | undefined;
  readonly fetch?: Fetch | undefined;
  /** Milliseconds since the epoch. @default Date.now */
  readonly now?: (() => number) | undefined;
  readonly random?: Random | undefined;
}

/** How a launch begins: the person picks the patient (`patient`), or an EHR started it and handed over `launch`. */
export interface LaunchRequest {
  readonly launch: 'patient' | { readonly launch: string };
  /** Space-separated; `launch/patient` (or `launch`) is added. */
  readonly scope: string;
}

/** A launch under way: send the person to `url`, then hand the callback's URL to `finish`, once. */
export interface PendingLaunch {
  readonly url: string;
  readonly state: string;
  /** @throws {SmartError} and {AuthorityUnavailable} */
  finish(callbackUrl: string): Promise<Grant>;
}

/** A SMART App Launch client (authorization code, PKCE S256). Every launch is a new grant with its own patient. */
export interface SmartClient {
  /** @throws {SmartError} `discovery_failed` @throws {AuthorityUnavailable} */
  begin(request: LaunchRequest): Promise<PendingLaunch>;
  /** {@link begin} and `finish` in one; `open` takes the person there and resolves with the callback's URL. */
  authorize(request: LaunchRequest & { readonly open: (url: string) => Promise<string> }): Promise<Grant>;
}

const METADATA_MS = 10 * 60_000;

/**
 * Makes a client of one FHIR server. For an EHR launch, choose the client by `iss` from the servers you know; never from the request.
 * @throws {TypeError} naming the option that is not usable
 * @see SMART App Launch 2.2; authorization study D
 */
export function smartClient(options: SmartClientOptions): SmartClient {
  secureUrl(options.fhirServer, 'fhirServer');
  if (options.clientId === '') throw new TypeError('"clientId" is empty');
  if (!URL.canParse(options.redirectUri) || options.redirectUri.includes('#')) {
    throw new TypeError('"redirectUri" must be an absolute URL without fragment');
  }
  const { fhirServer, clientId, redirectUri, privateKey, assumedSeconds = 300 } = options;
  if (!Number.isInteger(assumedSeconds) || assumedSeconds < 1)
    throw new TypeError('"assumedSeconds" must be a whole number above 0');
  if (privateKey !== undefined) checkClientKey(privateKey, 'privateKey');
  const now = options.now ?? Date.now;
  const random = options.random ?? secureRandom;
  let known: { readonly server: SmartServer; readonly until: number } | undefined;

  const findServer = async (): Promise<SmartServer> => {
    if (known !== undefined && now() < known.until) return known.server;
    const metadata = await discover({ fhirServer }, options).catch((error: unknown) => {
      throw error instanceof DiscoveryError ? new SmartError('discovery_failed') : error;
    });
    const server = readServer(metadata, options.fetch, now);
    known = { server, until: now() + METADATA_MS };
    return server;
  };

  const begin = async (request: LaunchRequest): Promise<PendingLaunch> => {
    const server = await findServer();
    const secret = () => base64url.encode(random(32));
    const [verifier, state] = [secret(), secret()];
    const scope = withLaunchScope(request);
    const nonce = scope.split(' ').includes('openid') ? secret() : undefined;
    const url = new URL(server.authorizationEndpoint);
    const parameters = {
      response_type: 'code',
      client_id: clientId,
      redirect_uri: redirectUri,
      scope,
      state,
      aud: fhirServer,
      resource: fhirServer,
      code_challenge: await fingerprint(verifier),
      code_challenge_method: 'S256',
      ...(request.launch === 'patient' ? {} : { launch: request.launch.launch }),
      ...(nonce === undefined ? {} : { nonce }),
    };
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);

    const authenticate = (): Promise<Readonly<Record<string, string>>> =>
      privateKey === undefined
        ? Promise.resolve({ client_id: clientId })
        : clientAssertion({ clientId, privateKey }, server.tokenEndpoint, { now, random });
    const grants = createGrants({
      ...{ fhirServer, clientId, requested: scope, nonce, assumedSeconds, now },
      ...{ issuer: server.metadata.issuer, keys: server.keys },
      askToken: async (form) => {
        const body = new URLSearchParams({ ...form, ...(await authenticate()) });
        return postForm(server.tokenEndpoint, body, options);
      },
      sendRevocation: async (form) => {
        const endpoint = server.metadata.revocation_endpoint;
        if (endpoint === undefined) return;
        await postForm(endpoint, new URLSearchParams({ ...form, ...(await authenticate()) }), options);
      },
    });
    let finished = false;
    return {
      url: url.href,
      state,
      finish: async (callbackUrl) => {
        if (finished) throw new SmartError('state_mismatch');
        const code = readCallback(callbackUrl, redirectUri, state, server.metadata);
        finished = true;
        return grants.redeem({ code, redirect_uri: redirectUri, code_verifier: verifier });
      },
    };
  };

  return {
    begin,
    authorize: async ({ open, ...request }) => {
      const pending = await begin(request);
      return pending.finish(await open(pending.url));
    },
  };
}

interface SmartServer {
  readonly metadata: AuthorizationServerMetadata;
  readonly authorizationEndpoint: string;
  readonly tokenEndpoint: string;
  readonly keys: ReturnType<typeof remoteKeySet>;
}

/** A server without S256, or one that also offers `plain`, is not used (SMART "Conformance"). */
function readServer(metadata: AuthorizationServerMetadata, fetch: Fetch | undefined, now: () => number): SmartServer {
  const { authorization_endpoint, token_endpoint, jwks_uri, code_challenge_methods_supported: pkce = [] } = metadata;
  const usable = pkce.includes('S256') && !pkce.includes('plain');
  if (!usable || authorization_endpoint === undefined || token_endpoint === undefined) throw new SmartError('discovery_failed');
  const locate = () => (jwks_uri === undefined ? Promise.reject(new TypeError('no jwks_uri')) : Promise.resolve(jwks_uri));
  return {
    metadata,
    authorizationEndpoint: authorization_endpoint,
    tokenEndpoint: token_endpoint,
    keys: remoteKeySet({ locate, fetch, now }),
  };
}

function withLaunchScope(request: LaunchRequest): string {
  const wanted = request.launch === 'patient' ? 'launch/patient' : 'launch';
  return [...new Set([wanted, ...request.scope.split(' ').filter((member) => member !== '')])].join(' ');
}

/**
 * Reads the callback: `state` first, then `iss` as a plain string (RFC 9207; required once advertised), and only then `error` or `code`.
 */
function readCallback(callbackUrl: string, redirectUri: string, state: string, metadata: AuthorizationServerMetadata): string {
  const query = URL.canParse(callbackUrl, redirectUri) ? new URL(callbackUrl, redirectUri).searchParams : new URLSearchParams();
  const only = (name: string): string | undefined => {
    const values = query.getAll(name);
    if (values.length > 1) throw new SmartError('authorization_failed');
    return values[0];
  };
  if (only('state') !== state) throw new SmartError('state_mismatch');
  const issuer = only('iss');
  const required = metadata.authorization_response_iss_parameter_supported === true;
  if (issuer === undefined ? required : issuer !== metadata.issuer) throw new SmartError('issuer_mismatch');
  const error = only('error');
  if (error === 'access_denied') throw new SmartError('access_denied');
  if (error !== undefined) throw new SmartError('authorization_failed', oauthError(error));
  const code = only('code');
  if (code === undefined || code === '') throw new SmartError('authorization_failed');
  return code;
}
