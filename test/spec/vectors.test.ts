import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { verifyAudit } from '@hmcp/audit';
import {
  type BindingExpectation,
  type ChainClaims,
  checkBinding,
  checkChain,
  coversAll,
  type DecisionFacts,
  decide,
  isSealed,
  META,
  type Operation,
  type PatientIdentity,
  parseEnvelope,
  parseScopes,
  patientKey,
  type VerifiedToken,
} from '@hmcp/core';
import { AjvJsonSchemaValidator } from '@modelcontextprotocol/server/validators/ajv';
import { describe, expect, it } from 'vitest';
import { readText } from '../architecture/workspace.js';

/** What `docs/spec/vectors.json` holds; every row has a `note`, and programs in other languages read the same file. */
interface Vectors {
  readonly patientKey: readonly (PatientIdentity & { note: string; key: string; pk: string })[];
  readonly envelope: readonly { note: string; meta: Record<string, unknown>; result: string }[];
  readonly binding: readonly { note: string; binding: unknown; expected: BindingExpectation; result: 'holds' | number }[];
  readonly chain: readonly { note: string; claims: ChainClaims; ok: boolean; hop?: number; firstClient?: string }[];
  readonly covers: readonly { granted: string; required: string; covers: boolean }[];
  readonly decision: readonly DecisionRow[];
  readonly auditLog: readonly { note: string; lines: string[]; ok: boolean; head?: string; line?: number }[];
}

interface DecisionRow extends Omit<DecisionFacts, 'token' | 'now' | 'operation'> {
  readonly note: string;
  readonly token: Pick<VerifiedToken, 'clientId' | 'subject' | 'scope' | 'patient' | 'tenant' | 'encounter' | 'sid'>;
  readonly operation?: Operation;
  readonly now?: number;
  readonly outcome: Record<string, unknown>;
}

const text = (place: string): string => readText(`docs/spec/${place}`);
const vectors = JSON.parse(text('vectors.json')) as Vectors;
const validators = new AjvJsonSchemaValidator();
const takes = (name: string, value: unknown): boolean =>
  validators.getValidator(JSON.parse(text(`schemas/${name}.json`)))(value).valid;

describe('the vectors of patient keys', () => {
  it.each(vectors.patientKey)('hold: $note', async ({ key, pk, note: _, ...who }) => {
    expect(await patientKey(key, who)).toBe(pk);
  });
});

describe('the vectors of envelopes', () => {
  const read = (meta: unknown): string => {
    const parsed = parseEnvelope(meta);
    if ('malformed' in parsed) return 'malformed';
    if (parsed.envelope === undefined) return 'absent';
    return isSealed(parsed.envelope) ? 'sealed' : 'plain';
  };
  it.each(vectors.envelope)('hold: $note', ({ meta, result }) => expect(read(meta)).toBe(result));

  it.each(vectors.envelope.filter(({ result }) => result !== 'absent'))('agree with the JSON Schemas: $note', ({
    meta,
    result,
  }) => {
    const envelope = meta[META.context];
    expect({ plain: takes('envelope-plain', envelope), sealed: takes('envelope-sealed', envelope) }).toEqual({
      plain: result === 'plain',
      sealed: result === 'sealed',
    });
  });
});

describe('the vectors of bindings', () => {
  it.each(vectors.binding)('hold: $note', ({ binding, expected, result }) => {
    expect(checkBinding(binding, expected) ?? 'holds').toBe(result);
  });

  it('agree with the JSON Schema wherever one holds', () => {
    const held = vectors.binding.filter(({ result }) => result === 'holds');
    expect(held.map(({ binding }) => takes('binding', binding))).toEqual(held.map(() => true));
  });
});

describe('the vectors of chains', () => {
  it.each(vectors.chain)('hold: $note', ({ claims, ok, hop, firstClient }) => {
    const verdict = checkChain(claims);
    expect(verdict.ok).toBe(ok);
    if (verdict.ok) expect({ hop: verdict.hop, firstClient: verdict.firstClient }).toEqual({ hop, firstClient });
  });
});

describe('the vectors of scopes', () => {
  it.each(vectors.covers)('hold: "$granted" covers "$required" is $covers', ({ granted, required, covers }) => {
    expect(coversAll(parseScopes(granted), parseScopes(required))).toBe(covers);
  });
});

describe('the vectors of decisions', () => {
  it.each(vectors.decision)('hold: $note', ({ note: _, outcome, token, operation, now = 0, ...facts }) => {
    const decision = decide({ ...facts, operation, now, token: verified(token) });
    const said =
      decision.verdict === 'refuse'
        ? { verdict: 'refuse', check: decision.refusal.check, ...carried(decision.refusal) }
        : decision.verdict === 'ask'
          ? { verdict: 'ask', patient: decision.patient.patient }
          : decision.verdict === 'verify' || decision.context === undefined
            ? { verdict: decision.verdict }
            : { verdict: 'serve', patient: decision.context.patient, contextMethod: decision.contextMethod };
    expect(said).toEqual(outcome);
  });
});

function carried(refusal: Extract<ReturnType<typeof decide>, { verdict: 'refuse' }>['refusal']): object {
  if (refusal.kind === 'scope') return { challenge: refusal.scope };
  return { code: refusal.kind === 'malformed' ? -32602 : refusal.code };
}

function verified(token: DecisionRow['token']): VerifiedToken {
  return {
    issuer: 'https://auth.example',
    audience: 'https://labs.example/mcp',
    fhirServer: 'https://ehr.example/r4',
    scopes: parseScopes(token.scope),
    jti: 'j0',
    issuedAt: 0,
    expiresAt: 4_000_000_000,
    actors: [],
    chain: [],
    hop: 1,
    firstClient: token.clientId,
    ...token,
  };
}

describe('the vectors of audit logs', () => {
  it.each(vectors.auditLog)('hold: $note', async ({ lines, ok, head, line }) => {
    const state = await mkdtemp(join(tmpdir(), 'hmcp-spec-'));
    try {
      const file = join(state, 'log.jsonl');
      await writeFile(file, lines.map((one) => `${one}\n`).join(''));
      const verdict = await verifyAudit(file);
      expect(verdict.ok ? { ok: true, head: verdict.head } : { ok: false, line: verdict.line }).toEqual(
        ok ? { ok, head } : { ok, line },
      );
      expect(await readFile(file, 'utf8')).toContain(lines[0]);
    } finally {
      await rm(state, { recursive: true, force: true });
    }
  });

  it('agree with the JSON Schema line by line', () => {
    const lines = vectors.auditLog.flatMap((log) => (log.ok ? log.lines.slice(1) : []));
    expect(lines.map((line) => takes('audit-line', JSON.parse(line)))).toEqual(lines.map(() => true));
  });
});
