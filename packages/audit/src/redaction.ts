import { type DestinationStream, destination, pino } from 'pino';
import { plainText } from './plain-text.js';

/** How serious a line is, least first. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'fatal';

/**
 * What may stand beside the message of a log line. Anything else is left out, whatever object is handed over, and so is
 * a value of another form than its serializer expects.
 */
export interface LogFields {
  readonly event?: string | undefined;
  readonly code?: number | string | undefined;
  readonly status?: number | undefined;
  readonly check?: string | undefined;
  /** A fixed sentence or word of the program. */
  readonly reason?: string | undefined;
  readonly by?: string | undefined;
  readonly peer?: string | undefined;
  readonly issuer?: string | undefined;
  readonly resource?: string | undefined;
  readonly url?: string | undefined;
  readonly method?: string | undefined;
  readonly tool?: string | undefined;
  readonly hop?: number | undefined;
  readonly epoch?: number | undefined;
  readonly intent?: string | undefined;
  readonly txn?: string | undefined;
  readonly port?: number | undefined;
  /** Process id of a child. */
  readonly child?: number | undefined;
  readonly signal?: string | undefined;
  /** Duration in ms. */
  readonly ms?: number | undefined;
  readonly count?: number | undefined;
  readonly bytes?: number | undefined;
  /** Any error: only its class and its `code` are written, never its message, stack or cause. */
  readonly err?: unknown;
}

/** `M` when it is a literal of the source; `never` for a computed string or a template with values in it. */
export type FixedText<M extends string> = Record<never, never> extends Record<M, 1> ? never : M;

/** Writes one line of a level: a fixed message, with fields before it as pino has it. */
export interface LogMethod {
  <const M extends string>(message: FixedText<M>): void;
  <const M extends string>(fields: LogFields, message: FixedText<M>): void;
}

/** A logger that cannot be handed a patient's data by accident. */
export interface Logger {
  readonly debug: LogMethod;
  readonly info: LogMethod;
  readonly warn: LogMethod;
  readonly error: LogMethod;
  readonly fatal: LogMethod;
}

/** Options of {@link createLogger}. */
export interface LoggerOptions {
  /** Name of the process, on every line. */
  readonly name: string;
  /** Least level that is written. @default "info" */
  readonly level?: LogLevel | 'silent';
  /** @default standard error, synchronously, so that nothing is lost when the process dies */
  readonly destination?: DestinationStream;
}

/**
 * A pino logger behind an allow-list: fixed messages (the compiler refuses computed ones) and {@link LogFields}, each
 * with its own serializer. Text is made plain and cut at 256 characters; URLs lose query, fragment and credentials.
 * @throws {TypeError} without a name
 * @see protocol section 8
 */
export function createLogger({ name, level = 'info', destination: to }: LoggerOptions): Logger {
  if (typeof name !== 'string') throw new TypeError('"name" of a logger is missing');
  const stream = to ?? destination({ dest: 2, sync: true });
  const base = { name: plainText(name), pid: process.pid };
  const logger = pino({ level, base, timestamp: pino.stdTimeFunctions.isoTime }, stream);
  const method = (at: LogLevel): LogMethod => {
    return (first: LogFields | string, message?: string) => {
      if (typeof first === 'string') logger[at](plainText(first));
      else logger[at](allowedFields(first), plainText(message ?? ''));
    };
  };
  return { debug: method('debug'), info: method('info'), warn: method('warn'), error: method('error'), fatal: method('fatal') };
}

type Serializer = (value: unknown) => unknown;

const word: Serializer = (value) => (typeof value === 'string' && /^[\w.:/-]{1,128}$/.test(value) ? value : undefined);
const sentence: Serializer = (value) => (typeof value === 'string' ? plainText(value) : undefined);
const number: Serializer = (value) => (typeof value === 'number' && Number.isFinite(value) ? value : undefined);
const place: Serializer = (value) => {
  if (typeof value !== 'string' || !URL.canParse(value)) return undefined;
  const { protocol, host, pathname } = new URL(value);
  return plainText(`${protocol}//${host}${pathname}`);
};
const errorClass: Serializer = (value) => {
  if (!(value instanceof Error)) return { type: value === null ? 'null' : typeof value };
  const { code } = value as { code?: unknown };
  return { type: word(value.constructor.name), code: typeof code === 'number' ? code : word(code) };
};

const SERIALIZERS: Readonly<Record<keyof LogFields, Serializer>> = {
  event: word,
  code: (value) => number(value) ?? word(value),
  status: number,
  check: word,
  reason: sentence,
  by: place,
  peer: place,
  issuer: place,
  resource: place,
  url: place,
  method: word,
  tool: word,
  hop: number,
  epoch: number,
  intent: word,
  txn: word,
  port: number,
  child: number,
  signal: word,
  ms: number,
  count: number,
  bytes: number,
  err: errorClass,
};

function allowedFields(fields: LogFields): Record<string, unknown> {
  const allowed: Record<string, unknown> = {};
  for (const [name, serialize] of Object.entries(SERIALIZERS)) {
    const value = fields[name as keyof LogFields];
    if (value === undefined) continue;
    const safe = serialize(value);
    if (safe !== undefined) allowed[name] = safe;
  }
  return allowed;
}
