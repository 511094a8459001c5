import { META, patientKey } from '@hmcp/core';
import { currentScope } from '@hmcp/core/request-scope';
import { describe, expect, test } from 'vitest';
import type { JsonRpcMessage } from '../src/instrument.js';
import { ANN, BO, FHIR, observation, scopeOf, type World, world } from './support/world.js';

const LABS = 'https://labs.example/mcp';

/** A pipe without a process: what is written stays in `sent`, what the server says is put in by the test. */
class Pipe {
  readonly sent: JsonRpcMessage[] = [];
  onmessage: ((message: JsonRpcMessage) => void) | undefined;
  onerror: ((error: Error) => void) | undefined;
  async send(message: JsonRpcMessage): Promise<void> {
    this.sent.push(message);
  }
}

interface Wire extends World {
  readonly pipe: Pipe;
  /** What reached the client, with the patient of the scope it was handed over in. */
  readonly delivered: { message: JsonRpcMessage; patient: string | undefined }[];
  readonly warnings: string[];
}

function wire(kind: 'hmcp' | 'plain' = 'hmcp'): Wire {
  const warnings: string[] = [];
  const log = { warn: (_: object, message: string) => void warnings.push(message) };
  const made = world([{ name: 'labs', resource: LABS, kind, scopes: 'patient/Observation.rs' }], { log });
  const pipe = made.agent.transport(new Pipe(), 'labs', { kind: 'stdio' });
  const delivered: Wire['delivered'] = [];
  pipe.onmessage = (message) => delivered.push({ message, patient: currentScope()?.facts.context.patient });
  return { ...made, pipe, delivered, warnings };
}

const call = (id: number | string, params: Record<string, unknown> = {}) =>
  ({ jsonrpc: '2.0', id, method: 'tools/call', params: { name: 'list-results', ...params } }) as const;

async function binding(patient: string, intent = `intent-of-${patient.split('-')[1]}`) {
  const pk = await patientKey(intent, { fhirServer: FHIR, patient });
  return { [META.context]: { version: '1', pk, pkScope: 'intent', intent: { id: intent }, by: LABS, patients: [pk] } };
}

const answer = async (id: number | string, patient: string, more: Record<string, unknown> = {}): Promise<JsonRpcMessage> => ({
  jsonrpc: '2.0',
  id,
  result: { structuredContent: { results: [observation(patient)] }, content: [], _meta: await binding(patient), ...more },
});

/**
 * Puts a message in, and lets everything it starts settle: judging a message takes one key at most, and more keys than that are
 * made here, one after the other.
 */
async function receive({ pipe, delivered }: Wire, message: JsonRpcMessage) {
  const before = delivered.length;
  pipe.onmessage?.(message);
  for (let turn = 0; turn < 8; turn++) {
    await patientKey('settle', { fhirServer: FHIR, patient: 'nobody' });
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  return delivered.slice(before);
}

describe('a pipe to a child', () => {
  test('carries envelope and token in the message; a handshake outside every request carries neither, the catalogue the token', async () => {
    const { pipe, tokens } = wire();
    await pipe.send({ jsonrpc: '2.0', id: 0, method: 'initialize', params: {} });
    expect(pipe.sent).toEqual([{ jsonrpc: '2.0', id: 0, method: 'initialize', params: {} }]);
    const scope = scopeOf(ANN);
    await scope.run(() => pipe.send({ jsonrpc: '2.0', id: 1, method: 'tools/list' }));
    expect(pipe.sent[1]?.params).toEqual({ _meta: { [META.authorization]: expect.stringMatching(/-from-access-pt-ann/) } });
    await scope.run(() => pipe.send(call(2)));
    expect(pipe.sent[2]?.params).toMatchObject({
      _meta: { [META.context]: scope.facts.envelope, [META.authorization]: expect.any(String), traceparent: expect.any(String) },
    });
    expect(tokens.requests).toHaveLength(2);
  });

  test.each([
    'server/discover',
    'initialize',
    'notifications/initialized',
  ])('is told nothing of the patient of a request, nor its token, by %s: the child may only be asked for its version', async (method) => {
    const { pipe, tokens } = wire();
    const message = { jsonrpc: '2.0', ...(method.startsWith('notifications/') ? {} : { id: 0 }), method, params: {} } as const;
    await scopeOf(ANN).run(() => pipe.send(message));
    expect(pipe.sent).toEqual([message]);
    expect(tokens.requests).toEqual([]);
  });

  test('hands each answer over in the scope of its request, a change notice outside every scope', async () => {
    const made = wire();
    await scopeOf(ANN).run(() => made.pipe.send(call(1)));
    await scopeOf(BO).run(() => made.pipe.send(call(2)));
    expect(await receive(made, await answer(2, BO))).toMatchObject([{ patient: BO, message: { id: 2 } }]);
    const [first] = await scopeOf(BO).run(async () => receive(made, await answer(1, ANN)));
    expect(first).toMatchObject({ patient: ANN, message: { id: 1 } });
    const notice = { jsonrpc: '2.0', method: 'notifications/tools/list_changed' } as const;
    expect(await scopeOf(ANN).run(() => receive(made, notice))).toEqual([{ message: notice, patient: undefined }]);
  });

  test('no key of ours is on what a client is handed: it was read by the checks, and a framework would show it to a model', async () => {
    const made = wire();
    const [bound, more] = [await binding(ANN), { 'example.com/own': 'kept' }];
    await scopeOf(ANN).run(() => made.pipe.send(call(1, { _meta: { progressToken: 1 } })));
    await made.pipe.send({ jsonrpc: '2.0', id: 2, method: 'initialize', params: {} });
    const inbound: JsonRpcMessage[] = [
      {
        jsonrpc: '2.0',
        method: 'notifications/progress',
        params: { progressToken: 1, progress: 1, _meta: { ...bound, ...more } },
      },
      { jsonrpc: '2.0', method: 'notifications/message', params: { level: 'info', data: 'half way', _meta: bound } },
      { jsonrpc: '2.0', method: 'notifications/tools/list_changed', params: { _meta: bound } },
      { jsonrpc: '2.0', id: 2, result: { capabilities: {}, _meta: { ...bound, 'DEV.HMCP/other': 1, ...more } } },
      await answer(1, ANN, { _meta: { ...bound, ...more } }),
    ];
    const found = /dev\.hmcp|intent-of-ann|"pk"/i;
    for (const message of inbound) {
      expect(JSON.stringify(message)).toMatch(found); // what is looked for below is there to be found
      expect(await receive(made, message)).toHaveLength(1);
    }
    expect(JSON.stringify(made.delivered)).not.toMatch(found);
    const kept = made.delivered.map(({ message: { params, result } }) => (params ?? (result as { _meta?: unknown }))._meta);
    expect(kept).toEqual([more, undefined, undefined, more, more]);
  });

  test('answers swapped between two requests are both dropped', async () => {
    const made = wire();
    await scopeOf(ANN).run(() => made.pipe.send(call(1)));
    await scopeOf(BO).run(() => made.pipe.send(call(2)));
    for (const [id, patient] of [
      [1, BO],
      [2, ANN],
    ] as const) {
      expect(await receive(made, await answer(id, patient))).toMatchObject([{ message: { error: { code: 40903 } } }]);
    }
  });

  test.each([
    ['a second time', 1, 1],
    ['to a request nobody made', 7, 0],
    ['with an id of another type', '1', 0],
  ])('an answer %s is not delivered', async (_, id, already) => {
    const made = wire();
    await scopeOf(ANN).run(() => made.pipe.send(call(1)));
    for (let n = 0; n < already; n++) await receive(made, await answer(1, ANN));
    expect(await receive(made, await answer(id, ANN))).toEqual([]);
    expect(made.warnings).toEqual(['an answer to no request was dropped']);
  });

  test('an error text of the transport does not reach the client', () => {
    const { pipe } = wire();
    const errors: Error[] = [];
    pipe.onerror = (error) => errors.push(error);
    pipe.onerror?.(new Error(`{"result":"Patient/${BO}"}`));
    expect(errors.map(String)).toEqual(['Error: the connection to the peer failed']);
  });

  test('a batch is not sent', async () => {
    const { pipe } = wire();
    await expect(scopeOf(ANN).run(() => pipe.send([call(1)] as never))).rejects.toThrow('batches');
    expect(pipe.sent).toEqual([]);
  });
});

describe('what a server must not ask', () => {
  test.each(['sampling/createMessage', 'elicitation/create', 'roots/list', 'anything/else'])('%s is refused', async (method) => {
    for (const kind of ['hmcp', 'plain'] as const) {
      const made = wire(kind);
      expect(await receive(made, { jsonrpc: '2.0', id: 's1', method, params: {} })).toEqual([]);
      expect(made.pipe.sent).toMatchObject([{ id: 's1', error: { code: -32601 } }]);
    }
  });

  test('ping is answered', async () => {
    const made = wire();
    await receive(made, { jsonrpc: '2.0', id: 's1', method: 'ping' });
    expect(made.pipe.sent).toEqual([{ jsonrpc: '2.0', id: 's1', result: {} }]);
  });

  test('a request inside an answer (input_required) is dropped, however well bound', async () => {
    const made = wire();
    await scopeOf(ANN).run(() => made.pipe.send(call(1)));
    const asking = await answer(1, ANN, { resultType: 'input_required', inputRequests: { q: { method: 'elicitation/create' } } });
    expect(await receive(made, asking)).toMatchObject([{ message: { error: { code: 40903, data: { check: 'result' } } } }]);
  });

  test('what a client would answer is not sent', async () => {
    const { pipe } = wire();
    await pipe.send({ jsonrpc: '2.0', id: 's1', result: { content: `about ${ANN}` } });
    expect(pipe.sent).toEqual([]);
  });
});

describe('notifications', () => {
  test.each([
    ['notifications/message', { level: 'info', data: 'x' }],
    ['notifications/progress', { progressToken: 1, progress: 1 }],
    ['dev.example/anything', { patient: ANN }],
  ])("a client's %s is not sent", async (method, params) => {
    const { pipe, warnings } = wire('plain');
    await scopeOf(ANN).run(() => pipe.send({ jsonrpc: '2.0', method, params }));
    expect(pipe.sent).toEqual([]);
    expect(warnings).toHaveLength(1);
  });

  test.each(['notifications/initialized', 'notifications/roots/list_changed'])("a client's %s is", async (method) => {
    const { pipe } = wire();
    await pipe.send({ jsonrpc: '2.0', method });
    expect(pipe.sent).toEqual([{ jsonrpc: '2.0', method }]);
  });

  test("a client's cancellation goes for its own request only, without its reason, and settles the request", async () => {
    const made = wire();
    const scope = scopeOf(ANN);
    await scope.run(() => made.pipe.send(call(1)));
    const cancel = (requestId: number) =>
      made.pipe.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId, reason: `stop ${ANN}` } });
    await cancel(9);
    scope.close();
    await cancel(1);
    await cancel(1);
    const [, cancelled, ...more] = made.pipe.sent;
    expect(cancelled?.params).toEqual({ requestId: 1, _meta: { [META.authorization]: expect.any(String) } });
    expect(more).toEqual([]);
    expect(await receive(made, await answer(1, ANN))).toEqual([]);
    expect(made.audit.records.at(-1)).toMatchObject({ event: 'hop.dropped', code: 40901 });
  });

  const logLine = (data: unknown, _meta?: object) =>
    ({ jsonrpc: '2.0', method: 'notifications/message', params: { level: 'info', data, ...(_meta ? { _meta } : {}) } }) as const;

  test("a server's log line is delivered only with the binding of a request under way", async () => {
    const made = wire();
    await scopeOf(ANN).run(() => made.pipe.send(call(1)));
    expect(await receive(made, logLine('half way', await binding(ANN)))).toMatchObject([{ patient: ANN }]);
    expect(await receive(made, logLine('half way'))).toEqual([]);
    expect(await receive(made, logLine('half way', await binding(BO)))).toEqual([]);
    expect(await receive(made, logLine('half way', await binding(BO, 'intent-of-ann')))).toEqual([]);
    expect(await receive(made, logLine(`as for Patient/${BO}`, await binding(ANN)))).toEqual([]);
    expect(made.audit.events).toEqual(['hop.call', 'hop.dropped', 'hop.dropped']);
  });

  test("a plain server's log line belongs to nobody, and is not delivered", async () => {
    const made = wire('plain');
    await scopeOf(ANN).run(() => made.pipe.send(call(1)));
    expect(await receive(made, logLine('half way'))).toEqual([]);
  });
});

describe('a request that ends', () => {
  test('while its record is written: nothing is sent', async () => {
    const made = wire();
    const scope = scopeOf(ANN);
    made.audit.onAppend = ({ event }) => {
      if (event === 'hop.call') scope.close();
    };
    await expect(scope.run(() => made.pipe.send(call(1)))).rejects.toMatchObject({ code: 40901 });
    expect(made.pipe.sent).toEqual([]);
    expect(made.audit.events).toEqual(['hop.call', 'hop.refused']);
  });

  test("while the answer's record is written: the answer is dropped", async () => {
    const made = wire();
    const scope = scopeOf(ANN);
    await scope.run(() => made.pipe.send(call(1)));
    made.audit.onAppend = ({ event }) => {
      if (event === 'hop.result') scope.close();
    };
    expect(await receive(made, await answer(1, ANN))).toMatchObject([{ message: { error: { code: 40901 } } }]);
    expect(made.audit.events).toEqual(['hop.call', 'hop.result', 'hop.dropped']);
  });

  test('before a refusal of a later hop comes: it is stale too', async () => {
    const made = wire();
    const scope = scopeOf(ANN);
    await scope.run(() => made.pipe.send(call(1)));
    scope.close();
    const data = { retry: 'never', by: 'https://meds.example', check: 'scope' };
    const refusal = { jsonrpc: '2.0', id: 1, error: { code: 40302, message: '', data } } as const;
    expect(await receive(made, refusal)).toMatchObject([{ message: { error: { code: 40901, data: { check: 'result' } } } }]);
  });
});
