import { readdirSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openFileAudit } from '@hmcp/audit';
import { describe, expect, it } from 'vitest';
import { ROOT } from '../architecture/workspace.js';
import { AuditLine, jsonSchema, SCHEMAS, sameMembers } from './schemas.js';

const folder = join(ROOT, 'docs/spec/schemas');

describe('docs/spec/schemas', () => {
  const committed = readdirSync(folder).sort();

  it('holds one file for each schema, and no other', () => {
    expect(committed).toEqual(Object.keys(SCHEMAS).map((name) => `${name}.json`));
  });

  // Changed on purpose: `npx vitest run --project spec -u`.
  it.each(Object.keys(SCHEMAS))('%s.json is what the code says', async (name) => {
    await expect(`${JSON.stringify(jsonSchema(name), null, 2)}\n`).toMatchFileSnapshot(join(folder, `${name}.json`));
  });
});

it('the schema of an audit line takes what the sink writes', async () => {
  expect(sameMembers).toBe(true);
  const state = await mkdtemp(join(tmpdir(), 'hmcp-spec-'));
  try {
    const file = join(state, 'labs.jsonl');
    const audit = await openFileAudit({ file, by: 'https://labs.example/mcp' });
    await audit.append({
      event: 'request.refused',
      outcome: 4,
      code: 40903,
      check: 'argument',
      reason: 'an argument names another patient',
      by: 'https://labs.example/mcp',
      hop: 2,
      actors: ['triage'],
      types: { Observation: 1 },
      pkScope: 'local',
      compared: [
        { said: 'token', pk: 'A'.repeat(43) },
        { said: 'argument', argument: 'patientId' },
      ],
    });
    await audit.close();
    const [, ...lines] = (await readFile(file, 'utf8')).trimEnd().split('\n');
    expect(lines).toHaveLength(3);
    for (const line of lines) expect(AuditLine.safeParse(JSON.parse(line)).error).toBeUndefined();
  } finally {
    await rm(state, { recursive: true, force: true });
  }
});
