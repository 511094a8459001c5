// What needs no socket, in a process of its own: `node in-process.js '<InProcessConfig as JSON>'` sends an InProcessReport to its parent.
import { createTokenVerifier } from '@hmcp/auth';
import { decide } from '@hmcp/core';
import { bareHandler, guardedHandler, memoryAudit } from './servers.js';
import { median, quantile } from './statistics.js';
import { answerOfTool, createMint, isExpected, issuerOf, patientOf, RESOURCE, requestFor, type Sent, tool } from './workload.js';

/** How much of it. */
export interface InProcessConfig {
  readonly rounds: number;
  /** Requests of each kind in a round. */
  readonly requests: number;
}

/** One value a round, in µs. */
export interface InProcessReport {
  /** p50 of one decision: the token is known to the verifier, the request is parsed. */
  readonly decision: readonly number[];
  /** p50 of `JSON.parse` of one answer of the tool: what a machine's microsecond is worth. */
  readonly yardstick: readonly number[];
  /** p50 of one request through the whole handler, by kind. */
  readonly request: Readonly<Record<RequestKind, readonly number[]>>;
}

/** `cold` is a token this server has not seen. */
export type RequestKind = 'bare' | 'hop 1' | 'hop 4' | 'hop 1, cold' | 'hop 4, cold';

interface Served {
  fetch(request: Request): Promise<Response>;
}

const { rounds, requests } = JSON.parse(process.argv[2] ?? '') as InProcessConfig;
const rows = answerOfTool();
const patient = patientOf(rows.results);
const mint = await createMint(patient);
const bare = bareHandler();
const guarded = guardedHandler(mint.jwks, memoryAudit());
const warm = { 1: await mint.token(1), 4: await mint.token(4) };
let serial = 0;

async function timeRequests(handler: Served, isGuarded: boolean, tokens: readonly string[]): Promise<number> {
  const taken: number[] = [];
  for (const token of tokens) {
    serial += 1;
    const { headers, body }: Sent = requestFor(token, patient, serial);
    const began = performance.now();
    const response = await handler.fetch(new Request(RESOURCE, { method: 'POST', headers, body }));
    const text = await response.text();
    taken.push(performance.now() - began);
    if (!isExpected(response.status, text, isGuarded)) throw new Error(`an answer was not the expected one: ${response.status}`);
  }
  return 1000 * quantile(taken, 0.5);
}

const again = (token: string): string[] => Array.from({ length: requests }, () => token);
const fresh = (hop: number): Promise<string[]> => Promise.all(again('').map(() => mint.token(hop)));

async function timeRound(): Promise<Record<RequestKind, number>> {
  const cold = { 1: await fresh(1), 4: await fresh(4) };
  const parts: Record<RequestKind, number[]> = { bare: [], 'hop 1': [], 'hop 4': [], 'hop 1, cold': [], 'hop 4, cold': [] };
  // In short turns, so that whatever else this machine does meets all of them.
  const turns = 8;
  const part = (tokens: readonly string[], turn: number): readonly string[] => {
    const size = Math.ceil(tokens.length / turns);
    return tokens.slice(turn * size, (turn + 1) * size);
  };
  for (let turn = 0; turn < turns; turn += 1) {
    parts.bare.push(await timeRequests(bare, false, part(again(warm[1]), turn)));
    parts['hop 1'].push(await timeRequests(guarded, true, part(again(warm[1]), turn)));
    parts['hop 4'].push(await timeRequests(guarded, true, part(again(warm[4]), turn)));
    parts['hop 1, cold'].push(await timeRequests(guarded, true, part(cold[1], turn)));
    parts['hop 4, cold'].push(await timeRequests(guarded, true, part(cold[4], turn)));
  }
  return Object.fromEntries(Object.entries(parts).map(([kind, values]) => [kind, median(values)])) as Record<RequestKind, number>;
}

const verifier = createTokenVerifier({ resource: RESOURCE, issuers: [issuerOf(mint.jwks)] });

/** From a parsed request to `serve`: the token is looked up and its times are checked, the envelope parsed, everything compared. */
async function timeDecisions(): Promise<number> {
  const taken: number[] = [];
  for (let i = 0; i < 5 * requests; i += 1) {
    serial += 1;
    const { params } = JSON.parse(requestFor(warm[4], patient, serial).body) as { params: unknown };
    const began = performance.now();
    const token = await verifier.verify(warm[4]);
    const decision = decide({ method: 'tools/call', params, token, operation: tool, mode: 'envelope', now: Date.now() });
    taken.push(performance.now() - began);
    if (decision.verdict !== 'serve') throw new Error('a decision was not the expected one');
  }
  return 1000 * quantile(taken, 0.5);
}

function timeYardstick(): number {
  const text = JSON.stringify(rows);
  const taken: number[] = [];
  for (let i = 0; i < requests; i += 1) {
    const began = performance.now();
    JSON.parse(text);
    taken.push(performance.now() - began);
  }
  return 1000 * quantile(taken, 0.5);
}

const report = {
  decision: [] as number[],
  yardstick: [] as number[],
  request: { bare: [], 'hop 1': [], 'hop 4': [], 'hop 1, cold': [], 'hop 4, cold': [] } as Record<RequestKind, number[]>,
};
// The first round warms up.
for (let round = 0; round <= rounds; round += 1) {
  const times = await timeRound();
  const [decision, yardstick] = [await timeDecisions(), timeYardstick()];
  if (round === 0) continue;
  for (const kind of Object.keys(times) as RequestKind[]) report.request[kind].push(times[kind]);
  report.decision.push(decision);
  report.yardstick.push(yardstick);
}
process.send?.(report satisfies InProcessReport, () => process.disconnect());
