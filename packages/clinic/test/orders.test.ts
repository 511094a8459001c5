import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSealSigner, createTokenVerifier, type SealSigner } from '@hmcp/auth';
import type { AuditRecord, PermitAuthority } from '@hmcp/core';
import { HmcpError } from '@hmcp/core';
import type { HmcpHandler } from '@hmcp/server';
import { exportJWK, generateKeyPair } from 'jose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type OrderBook, openOrderBook, orders, partOfOrders } from '../src/index.js';
import { startIssuer, type TestIssuer } from './test-issuer.js';

const RESOURCE = 'http://127.0.0.1:7009/mcp';
const FHIR = 'http://127.0.0.1:7002/fhir';
const MANAGER = 'http://127.0.0.1:7001';
const TEXT = 'Lipid panel, fasting';

let folder: string;
let issuer: TestIssuer;
let signer: SealSigner;
let book: OrderBook;
let handler: HmcpHandler;
let records: AuditRecord[];
/** What the manager says to whoever asks for a permit; `undefined` grants it. */
let denial: HmcpError | undefined;
/** Milliseconds a permit lives. */
let ttlMs: number;
let intents: number;

const permits: PermitAuthority = {
  async permit({ operation, effectKey }, { intent }) {
    if (denial !== undefined) throw denial;
    const usableUntil = performance.now() + ttlMs;
    const expiresAt = Date.now() + ttlMs;
    return { permit: 'pm_1', sid: 'ctx_1', epoch: intent.epoch, operation, effectKey, ttlMs, expiresAt, usableUntil };
  },
  redeem: () => Promise.reject(new HmcpError(42802, { by: MANAGER, check: 'permit' })),
  release: async () => undefined,
};

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hmcp-orders-'));
  issuer = await startIssuer(RESOURCE);
  const key = { ...(await exportJWK((await generateKeyPair('ES256', { extractable: true })).privateKey)), kid: 'seal-1' };
  signer = await createSealSigner({ issuer: MANAGER, trustDomain: 'ward', key });
  book = await openOrderBook({ file: join(folder, 'orders.jsonl') });
  records = [];
  denial = undefined;
  ttlMs = 10_000;
  intents = 0;
  handler = orders(book).create({
    resource: RESOURCE,
    authorizationServers: [issuer.issuer],
    verifier: createTokenVerifier({ resource: RESOURCE, issuers: [{ issuer: issuer.issuer, fhirServer: FHIR }] }),
    audit: { append: async (record) => void records.push(record), close: async () => {} },
    pseudonymKey: 'a key of the tests',
    managers: [
      {
        issuer: MANAGER,
        resource: `${MANAGER}/mcp`,
        clientId: 'context-manager',
        keys: signer.jwks,
        trustDomain: 'ward',
        fhirServers: [FHIR],
        tokenIssuers: [issuer.issuer],
      },
    ],
    permits,
  });
});
afterEach(async () => {
  await handler.close();
  await book.close();
  await issuer.close();
  await rm(folder, { recursive: true, force: true });
});

interface Where {
  readonly patient: string;
  /** Absent: a plain envelope, outside every session. */
  readonly epoch?: number;
  readonly intent?: string;
}
const ofAnn: Where = { patient: 'pt-ann', epoch: 4 };
const ofBo: Where = { patient: 'pt-bo', epoch: 5 };

/** Calls a tool as a well-behaved portal does. */
async function call(name: string, args: object, { patient, epoch, intent = `i${++intents}` }: Where) {
  const scope = 'patient/hmcp:read patient/hmcp:write';
  const inSession = epoch === undefined ? {} : { sid: 'ctx_1' };
  const token = await issuer.mint({ patient, scope, __hmcp: { v: 1, ...inSession, chain: [] } });
  const person = { sub_iss: issuer.issuer, sub: 'clinician', azp: 'portal', fhirServer: FHIR, pk: 'k'.repeat(43) };
  const envelope =
    epoch === undefined
      ? { version: '1', patient, intent: { id: intent } }
      : { version: '1', seal: await signer.sign({ ...person, sid: 'ctx_1', epoch, patient }), intent: { id: intent, epoch } };
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
    'io.modelcontextprotocol/clientCapabilities': {},
    'dev.hmcp/context': envelope,
  };
  const response = await handler.fetch(
    new Request(RESOURCE, {
      method: 'POST',
      headers: {
        Authorization: `Bearer ${token}`,
        'Content-Type': 'application/json',
        Accept: 'application/json, text/event-stream',
        'MCP-Protocol-Version': '2026-07-28',
        'Mcp-Method': 'tools/call',
        'Mcp-Name': name,
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: args, _meta } }),
    }),
  );
  const text = await response.text();
  const data =
    text
      .split('\n')
      .find((line) => line.startsWith('data: '))
      ?.slice(6) ?? text;
  const { result, error } = JSON.parse(data) as {
    result?: { structuredContent?: Record<string, unknown>; isError?: boolean };
    error?: { code: number; data?: { check?: string } };
  };
  return {
    text,
    value: result?.structuredContent ?? {},
    failed: result?.isError === true,
    code: error?.code,
    check: error?.data?.check,
  };
}
const draft = (where: Where = ofAnn) => call('draft-order', { kind: 'service', text: TEXT }, where);
const sign = (handle: unknown, where: Where = ofAnn) => call('sign-order', { draft: handle }, where);
const list = async (where: Where = ofAnn) => (await call('list-drafts', {}, where)).value.drafts;

describe('the orders agent', () => {
  it('drafts in the words it is given, and signs, each by a permit and between two records', async () => {
    const { value } = await draft();
    expect(value).toEqual({ draft: expect.stringMatching(/^draft_/), saved: false });
    expect(await list()).toMatchObject([{ kind: 'service', text: TEXT, saved: false }]);
    expect((await sign(value.draft)).value).toEqual({ order: expect.stringMatching(/^order_/), signedAt: expect.any(String) });
    expect(await list()).toEqual([]);
    const effects = records.filter(({ event }) => event.startsWith('effect.'));
    expect(effects.map(({ event, tool, permit }) => [event, tool, permit])).toEqual([
      ['effect.intent', 'draft-order', 'pm_1'],
      ['effect.outcome', 'draft-order', 'pm_1'],
      ['effect.intent', 'sign-order', 'pm_1'],
      ['effect.outcome', 'sign-order', 'pm_1'],
    ]);
    expect(JSON.stringify(records)).not.toMatch(/Lipid|pt-ann/);
  });

  it('gives the same answer to the same act', async () => {
    const [first, again] = [await draft({ ...ofAnn, intent: 'act-1' }), await draft({ ...ofAnn, intent: 'act-1' })];
    expect(again.value).toEqual(first.value);
    const signed = await sign(first.value.draft, { ...ofAnn, intent: 'act-2' });
    expect((await sign(first.value.draft, { ...ofAnn, intent: 'act-2' })).value).toEqual(signed.value);
    expect(await sign(first.value.draft)).toMatchObject({ failed: true });
  });

  it.each<[string, Where]>([
    ['another patient, after the switch', ofBo],
    ['another patient at the same epoch', { ...ofBo, epoch: 4 }],
    ['its own patient, unsaved, at a later epoch', { ...ofAnn, epoch: 6 }],
  ])('refuses to sign a draft for %s, as if it were not there', async (_name, where) => {
    const { value } = await draft();
    const refused = await sign(value.draft, where);
    expect(refused).toMatchObject({ code: 40302, check: 'argument' });
    const unknown = await sign('draft_none', where);
    expect({ ...refused, text: '' }).toEqual({ ...unknown, text: '' });
    expect(refused.text).not.toMatch(/pt-ann|Lipid|draft_/);
    expect(await list(where)).toEqual([]);
    expect(book.unsaved({ sid: 'ctx_1', epoch: 4 })).toHaveLength(1);
  });

  it('refuses to sign for another patient what was saved for the first', async () => {
    const { value } = await draft();
    await book.save({ sid: 'ctx_1', epoch: 4 }, [String(value.draft)]);
    expect(await sign(value.draft, ofBo)).toMatchObject({ code: 40302, check: 'argument' });
    expect(await list({ ...ofAnn, epoch: 6 })).toMatchObject([{ draft: value.draft, saved: true }]);
    expect((await sign(value.draft, { ...ofAnn, epoch: 6 })).value.order).toMatch(/^order_/);
  });

  it.each<[string, () => Promise<{ code?: number | undefined }>]>([
    ['draft without a seal', () => draft({ patient: 'pt-ann' })],
    ['sign without a seal', () => sign('draft_none', { patient: 'pt-ann' })],
  ])('does not %s: 42802', async (_name, attempt) => {
    expect(await attempt()).toMatchObject({ code: 42802 });
    expect(book.unsaved({ sid: 'ctx_1', epoch: 4 })).toEqual([]);
  });

  it.each([42301, 40901, 42802, 50301] as const)('changes nothing when the permit is refused with %i', async (code) => {
    denial = new HmcpError(code, { by: MANAGER, check: 'permit' });
    expect(await draft()).toMatchObject({ code });
    expect(book.unsaved({ sid: 'ctx_1', epoch: 4 })).toEqual([]);
  });

  it('changes nothing when the permit has run out', async () => {
    ttlMs = 0;
    expect(await draft()).toMatchObject({ code: 42802 });
    expect(book.unsaved({ sid: 'ctx_1', epoch: 4 })).toEqual([]);
  });

  it.each<[string, string, object]>([
    ['an order of another kind', 'draft-order', { kind: 'advice', text: TEXT }],
    ['no text', 'draft-order', { kind: 'service', text: '  ' }],
    ['an endless text', 'draft-order', { kind: 'service', text: 'x'.repeat(1001) }],
    ['a path for a draft', 'sign-order', { draft: '../orders' }],
    ['two drafts', 'sign-order', { draft: ['draft_1', 'draft_2'] }],
  ])('takes no %s', async (_name, tool, args) => {
    expect(await call(tool, args, ofAnn)).toMatchObject({ code: -32602 });
  });
});

describe('the part of orders in a switch', () => {
  const asked = { sid: 'ctx_1', epoch: 4, switchId: 'sw-1', kind: 'switch' } as const;

  it('accepts when nothing is unsaved, and warns of each draft that is', async () => {
    const { prepare } = partOfOrders(book);
    expect(await prepare?.(asked)).toEqual({ vote: 'accept', unsaved: [] });
    const { value } = await draft();
    expect(await prepare?.(asked)).toEqual({ vote: 'accept_with_warning', unsaved: [{ id: value.draft, savable: true }] });
    expect(await prepare?.({ ...asked, sid: 'ctx_2' })).toEqual({ vote: 'accept', unsaved: [] });
    expect(await prepare?.({ ...asked, epoch: 5 })).toEqual({ vote: 'accept', unsaved: [] });
    await sign(value.draft);
    expect(await prepare?.(asked)).toEqual({ vote: 'accept', unsaved: [] });
  });

  it('saves what it is told to, and says what it saved', async () => {
    const { prepare, drain } = partOfOrders(book);
    const [{ value }] = [await draft(), await draft()];
    expect(await drain?.({ ...asked, save: [String(value.draft), 'draft_none'] })).toEqual({ saved: [value.draft] });
    expect(await prepare?.(asked)).toMatchObject({ unsaved: [{ id: expect.not.stringMatching(String(value.draft)) }] });
  });
});
