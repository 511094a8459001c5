/** Interactions of a FHIR resource scope, in SMART v2 order. */
export type Interaction = 'c' | 'r' | 'u' | 'd' | 's';

/**
 * One parsed member of a `scope` string. Anything that is not understood is `unknown` and grants nothing.
 * @see protocol section 2.1
 */
export type Scope =
  | {
      readonly kind: 'resource';
      readonly raw: string;
      readonly level: 'patient' | 'user' | 'system';
      readonly type: string;
      readonly ops: ReadonlySet<Interaction>;
      readonly constraints: ReadonlyMap<string, string>;
    }
  | {
      readonly kind: 'hmcp';
      readonly raw: string;
      readonly level: 'patient' | 'user';
      readonly ops: ReadonlySet<'read' | 'write'>;
    }
  | { readonly kind: 'access'; readonly raw: string }
  | { readonly kind: 'control'; readonly raw: string; readonly grant: 'switch' | 'participate' | 'control' }
  | { readonly kind: 'launch'; readonly raw: string }
  | { readonly kind: 'identity'; readonly raw: string }
  | { readonly kind: 'unknown'; readonly raw: string };
