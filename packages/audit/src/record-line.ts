import { AUDIT_EVENTS, type AuditRecord, CHECKS, COMPARED_SOURCES } from '@hmcp/core';
import { plainText } from './plain-text.js';

/** Members the sink itself adds to its own records; absent from everybody else's. */
export interface SinkFacts {
  /** Wall time in ms of the first and last refusal folded into this record. */
  readonly since?: number | undefined;
  readonly until?: number | undefined;
  /** Size and SHA-256 (base64url) of the torn tail that was cut (`audit.recover`). */
  readonly bytes?: number | undefined;
  readonly sha256?: string | undefined;
}

/**
 * A record as it stands in the log. `t` is wall time in ms when the decision was handed to the sink; `seq` counts from 1
 * (0 is the header of the chain); `b` numbers the batches, each made durable by one `fdatasync`.
 */
export interface StoredRecord extends AuditRecord, SinkFacts {
  readonly v: 1;
  readonly chain: string;
  readonly seq: number;
  readonly b: number;
  readonly t: number;
}

/**
 * The serialized form, version 1: these members in this order, absent ones left out, nothing else. A member that is not
 * in this table cannot enter the log, whatever object the caller hands over.
 */
const MEMBERS: Readonly<Record<keyof AuditRecord | keyof SinkFacts, (value: unknown) => unknown>> = {
  event: oneOf(AUDIT_EVENTS),
  outcome: oneOf([0, 4, 8, 12]),
  code: integer,
  check: oneOf(CHECKS),
  reason: text(256),
  by: text(2048),
  hop: integer,
  issuer: text(2048),
  subject: text(256),
  clientId: text(256),
  actors: texts(8),
  fhirUser: text(2048),
  jti: text(256),
  txn: text(256),
  traceparent: text(64),
  intent: text(128),
  sid: text(128),
  epoch: integer,
  pk: text(64),
  pkScope: oneOf(['local']),
  method: text(128),
  tool: text(128),
  peer: text(2048),
  binding: oneOf(['none', 'checked']),
  types: counts,
  unverifiable: integer,
  fence: oneOf(['none']),
  contextMethod: oneOf(['claim', 'envelope', 'header']),
  compared: comparison,
  switchId: text(128),
  fromPk: text(64),
  toPk: text(64),
  vote: oneOf(['accept', 'accept_with_warning', 'veto', 'cannot_follow']),
  level: oneOf(['C1', 'C2']),
  evicted: texts(32),
  permit: text(128),
  waitedMs: integer,
  folded: integer,
  since: integer,
  until: integer,
  bytes: integer,
  sha256: text(64),
};

const SERIALIZERS = Object.entries(MEMBERS) as readonly (readonly [keyof typeof MEMBERS, (value: unknown) => unknown])[];

const REQUIRED = ['event', 'outcome', 'by'] as const;

/**
 * The members of a record as JSON, without braces. Text is made plain and cut (128 to 2048 characters).
 * @throws {TypeError} naming the member, when a required one is missing or one is ill-typed
 */
export function serializeRecord(record: AuditRecord & SinkFacts): string {
  const parts: string[] = [];
  for (const [name, serialize] of SERIALIZERS) {
    const value = record[name];
    if (value === undefined) continue;
    try {
      parts.push(`"${name}":${JSON.stringify(serialize(value))}`);
    } catch {
      throw new TypeError(`audit record: "${name}" is ill-typed`);
    }
  }
  for (const name of REQUIRED) {
    if (record[name] === undefined) throw new TypeError(`audit record: "${name}" is missing`);
  }
  return parts.join(',');
}

function illTyped(): never {
  throw new TypeError('ill-typed');
}

function text(max: number): (value: unknown) => string {
  return (value) => (typeof value === 'string' ? plainText(value, max) : illTyped());
}

function texts(most: number): (value: unknown) => string[] {
  return (value) => (Array.isArray(value) ? value.slice(0, most).map(text(256)) : illTyped());
}

function integer(value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : illTyped();
}

function oneOf(values: readonly unknown[]): (value: unknown) => unknown {
  return (value) => (values.includes(value) ? value : illTyped());
}

function counts(value: unknown): Record<string, number> {
  if (typeof value !== 'object' || value === null) illTyped();
  const pairs = Object.entries(value).slice(0, 64);
  return Object.fromEntries(pairs.map(([type, count]) => [/^[A-Za-z]{1,64}$/.test(type) ? type : 'other', integer(count)]));
}

const said = oneOf(COMPARED_SOURCES);
const argumentName = text(64);
const key = text(64);

function comparison(value: unknown): object[] {
  if (!Array.isArray(value)) illTyped();
  return value.slice(0, COMPARED_SOURCES.length).map((side: unknown) => {
    if (typeof side !== 'object' || side === null) illTyped();
    const { said: who, argument, pk } = side as Record<string, unknown>;
    return {
      said: said(who),
      ...(argument === undefined ? {} : { argument: argumentName(argument) }),
      ...(pk === undefined ? {} : { pk: key(pk) }),
    };
  });
}
