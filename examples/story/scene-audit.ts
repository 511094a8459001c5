import { copyFile, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { verifyAudit } from '@hmcp/audit';
import { verifyStoreAudit } from '@hmcp/context-manager/store-audit';
import type { Stage } from './stage.js';

/** Verifies the log of every party that has one by now, and the one inside the context manager's store. @returns the records */
export async function verifyLogs({ teller, expectations, facts }: Stage): Promise<number> {
  let records = 0;
  let logs = 0;
  for (const file of [...facts.audit, facts.manager.store]) {
    if ((await stat(file).catch(() => undefined)) === undefined) continue;
    const verdict = file === facts.manager.store ? await verifyStoreAudit(file) : await verifyAudit(file);
    expectations.truthy(`the audit verifies: ${file.split('/').at(-1)}`, verdict.ok);
    records += verdict.records;
    logs += 1;
  }
  teller.verdict(0, `${logs} audit logs, ${records} records`, 'verified', 'served');
  teller.event({ type: 'audit', logs, records, verified: true });
  return records;
}

/** Scene 4: every decision is in the audit; the audit verifies, and no longer does after one byte is changed in a copy. */
export async function audited(stage: Stage): Promise<void> {
  const { teller, expectations, facts } = stage;
  teller.scene(4, 'Every decision is in the audit, and the audit shows it when one byte of it is changed.');
  await verifyLogs(stage);

  const original = facts.audit.find((file) => file.endsWith('triage.jsonl')) ?? '';
  const copy = join(facts.state, 'triage-copy.jsonl');
  await copyFile(original, copy);
  const bytes = await readFile(copy);
  const at = Math.floor(bytes.length / 2);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await writeFile(copy, bytes);
  const broken = await verifyAudit(copy);
  expectations.equal('one changed byte is found', broken.ok, false);
  if (!broken.ok) teller.verdict(0, `a copy with one byte of it changed, at line ${broken.line}`, 'tampering found', 'refused');
  teller.event({ type: 'audit', changedBytes: 1, verified: broken.ok });
}
