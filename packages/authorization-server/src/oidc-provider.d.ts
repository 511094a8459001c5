// `oidc-provider` ships no types: what this package uses of the pinned version, and nothing more.
declare module 'oidc-provider' {
  import type { IncomingMessage, ServerResponse } from 'node:http';

  export interface Client {
    readonly clientId: string;
    readonly clientName?: string;
    readonly redirectUris: readonly string[];
    readonly clientAuthMethod: string;
  }

  export interface Context {
    readonly req: IncomingMessage;
    readonly res: ServerResponse;
    readonly method: string;
    readonly path: string;
    readonly host: string;
    query: Record<string, string | string[] | undefined>;
    status: number;
    body: unknown;
    get(header: string): string;
    set(header: string, value: string): void;
    set(headers: Record<string, string>): void;
    remove(header: string): void;
    redirect(url: string): void;
    readonly oidc: {
      readonly provider: Provider;
      readonly route?: string;
      readonly client?: Client;
      readonly params?: Record<string, unknown>;
      readonly result?: { readonly consent?: { readonly grantId?: string } };
      readonly entities: {
        readonly AuthorizationCode?: { readonly scope?: string };
        readonly RefreshToken?: { readonly scope?: string };
      };
      entity(name: string, value: unknown): void;
    };
  }

  export interface Token {
    readonly kind: string;
    readonly accountId?: string;
    readonly grantId?: string;
    readonly gty?: string;
    readonly resourceServer?: { readonly accessTokenTTL?: number };
  }

  export interface MintedToken extends Token {
    resourceServer: object;
    readonly expiration: number;
    save(): Promise<string>;
  }

  export interface Grant {
    readonly jti: string;
    addOIDCScope(scope: string): void;
    addResourceScope(resource: string, scope: string): void;
    save(): Promise<string>;
  }

  export interface Interaction {
    readonly uid: string;
    readonly prompt: { readonly name: string };
    readonly params: Readonly<Record<string, unknown>>;
    readonly session?: { readonly accountId?: string };
    readonly result?: { readonly launch?: { readonly patient?: string } };
  }

  type Middleware = (ctx: Context, next: () => Promise<void>) => Promise<void> | void;

  export class Provider {
    constructor(issuer: string, configuration: Record<string, unknown>);
    proxy: boolean;
    use(middleware: Middleware): this;
    on(
      event: 'authorization.error' | 'grant.error' | 'revocation.error' | 'server_error',
      listener: (ctx: Context, error: Error) => void,
    ): this;
    on(event: 'grant.revoked', listener: (ctx: Context, grantId: string) => void): this;
    on(event: 'error', listener: (error: Error) => void): this;
    callback(): (req: IncomingMessage, res: ServerResponse) => void;
    registerGrantType(
      name: string,
      handler: (ctx: Context) => Promise<void>,
      parameters: readonly string[],
      dupes: readonly string[],
    ): void;
    interactionDetails(req: IncomingMessage, res: ServerResponse): Promise<Interaction>;
    interactionResult(req: IncomingMessage, res: ServerResponse, result: object): Promise<string>;
    readonly Client: { find(clientId: string): Promise<Client | undefined> };
    readonly Grant: { new (values: object): Grant; find(grantId: string): Promise<Grant | undefined> };
    readonly AccessToken: new (
      values: object,
    ) => MintedToken;
    readonly ClientCredentials: new (
      values: object,
    ) => MintedToken;
    readonly ResourceServer: new (
      identifier: string,
      info: object,
    ) => object;
  }

  export class OIDCProviderError extends Error {
    readonly error: string;
    error_description?: string;
    readonly statusCode: number;
  }

  export const errors: {
    readonly CustomOIDCProviderError: new (error: string, description: string) => OIDCProviderError;
    readonly InvalidClientAuth: new (detail: string) => OIDCProviderError;
    readonly SessionNotFound: new (description: string) => OIDCProviderError;
  };

  class Prompt {
    constructor(options: { name: string; requestable: boolean }, ...checks: Check[]);
  }
  class Check {
    constructor(reason: string, description: string, error: string, check: (ctx: Context) => boolean);
  }
  export const interactionPolicy: {
    readonly Prompt: typeof Prompt;
    readonly Check: typeof Check;
    base(): { remove(name: string): void; add(prompt: Prompt): void };
  };
}
