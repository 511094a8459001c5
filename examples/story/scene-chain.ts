import { Assessment, outOfRangeResults } from '@hmcp/clinic';
import type { Launched } from './scene-launch.js';
import type { Stage } from './stage.js';

/** An answer of the portal. */
export interface PortalAnswer {
  readonly status: number;
  readonly body: unknown;
  readonly text: string;
}

/** Sends a form of the portal's pages as the person's browser does. */
export async function postPortal(
  { facts }: Stage,
  { cookie, page }: Launched['visit'],
  path: string,
  form: Record<string, string>,
): Promise<PortalAnswer> {
  const response = await fetch(`${facts.portal}${path}`, {
    method: 'POST',
    headers: { cookie, accept: 'application/json', 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({ page, ...form }),
  });
  const text = await response.text();
  return { status: response.status, body: JSON.parse(text), text };
}

/** Asks triage through the portal. */
export function askPortal(stage: Stage, { visit }: Pick<Launched, 'visit'>, form: Record<string, string>): Promise<PortalAnswer> {
  return postPortal(stage, visit, '/ask', form);
}

/** Scene 2: portal asks triage; triage asks labs and medications by itself; every hop checks for itself. */
export async function chain(stage: Stage, launched: Launched): Promise<void> {
  const { teller, expectations, records, a, counter, trail } = stage;
  teller.scene(2, 'The portal asks triage; triage asks labs and medications by itself, each with a token of its own.');
  await trail.next();
  const { status, body, text } = await askPortal(stage, launched, { reason: 'What stands out?' });
  expectations.equal('the portal answers', status, 200);
  const hops = await trail.next();
  expectations.tell(hops);
  const served = (party: string): boolean => hops.some((hop) => hop.party === party && hop.event === 'request.served');
  for (const party of ['triage', 'labs', 'medications', 'fhir']) expectations.truthy(`${party} served its hop`, served(party));
  const agents = hops.filter(({ party }) => party !== 'fhir');
  expectations.equal(
    'one person-made intent runs through every hop',
    new Set(agents.map(({ intent }) => intent)).size,
    1,
    hops[0],
  );
  expectations.equal('every hop saw one patient', new Set(hops.map(({ pk }) => pk)).size, 1, hops[0]);

  const answer = Assessment.safeParse(body);
  expectations.truthy('the answer is an assessment', answer.success);
  if (!answer.success) return;
  const own = outOfRangeResults(records.ofPatient(a.id, 'Observation'), {
    source: (reference) => reference,
    gender: a.gender,
    birthDate: a.birthDate,
  });
  const values = (
    results: readonly { loinc: string; newest: { value: number }; previous?: { value: number } | undefined }[],
  ): unknown => results.map(({ loinc, newest, previous }) => [loinc, newest.value, previous?.value ?? null]).sort();
  expectations.equal(
    "the answer is computed from A's record, value by value",
    values(answer.data.findings.map(({ result }) => result)),
    values(own),
    hops[0],
  );
  expectations.truthy('the answer names no resource id', !/[0-9a-f]{8}-[0-9a-f]{4}-/.test(text));
  expectations.truthy('nothing of the other patient is in the answer', !counter.holds(text));
  teller.say(
    `What the person is shown, from ${answer.data.considered.results} results and ${answer.data.considered.medications} active medications:`,
  );
  for (const { result, medications } of answer.data.findings) {
    const { analyte, direction, newest, previous } = result;
    const before = previous === undefined ? '' : `, before ${round(previous.value)}`;
    const value = `: ${direction}, ${round(newest.value)} ${newest.unit}${before}`;
    teller.value(0, { label: analyte, value, source: `[${newest.source}]` });
    for (const { medication, source } of medications)
      teller.value(1, { label: `takes ${medication}`, value: '', source: `[${source}]` });
  }
  teller.event({ type: 'call', agent: 'triage', tool: 'assess', verdict: 'served', findings: answer.data.findings.length });
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
