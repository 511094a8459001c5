import { signIn } from '@hmcp/authorization-server';
import { Assessment, outOfRangeResults } from '@hmcp/clinic';
import * as z from 'zod';
import { ByteCounter } from './byte-counter.js';
import { askPortal, postPortal } from './scene-chain.js';
import type { Launched } from './scene-launch.js';
import type { Stage } from './stage.js';

const Open = z.object({
  page: z.string(),
  epoch: z.int(),
  switching: z.object({ id: z.string(), round: z.int(), fields: z.array(z.object({ name: z.string() })) }).optional(),
});
const Ended = Open.extend({
  report: z.object({ result: z.string(), reason: z.string().optional(), epoch: z.int(), revoked: z.boolean() }).optional(),
});
const Drafted = z.object({ draft: z.string() });
const Refused = z.object({ error: z.object({ code: z.int(), check: z.string().optional() }) });

/** Scene 6: the person goes to the next patient. Scene 7: what belongs to the patient before comes too late. */
export async function switched(stage: Stage, launched: Launched): Promise<void> {
  const { teller, expectations, facts, a, b, counter, trail, records, wire, world } = stage;
  teller.scene(6, 'The person goes to the other patient; a draft is unsigned, a laboratory has not answered yet.');
  const draft = Drafted.safeParse(
    (await postPortal(stage, launched.visit, '/draft', { kind: 'service', text: 'Repeat the panel' })).body,
  );
  expectations.truthy('an order for A is drafted', draft.success);

  await askPortal(stage, launched, { reason: 'What stands out?', laboratory: 'bedside-lab' });
  const slow = world.channel('slow-lab');
  const holding = slow.next('holding');
  slow.send({ type: 'hold' });
  await holding;
  const held = slow.next('held');
  const late = postPortal(stage, launched.visit, '/results', { laboratory: 'slow-lab' });
  // Awaited later; a story that is stopped before leaves it unanswered.
  late.catch(() => undefined);
  await held;
  teller.say('A laboratory has read its results for A and holds them back.');
  await trail.next();

  // From here the portal asks whether the person means the other patient, and reads who that is.
  counter.excuse('portal', 'fhir');
  const [account] = facts.accounts;
  if (account === undefined) throw new TypeError('the world has an account');
  const begun = await fetch(`${facts.portal}/switch`, { redirect: 'manual', headers: { cookie: launched.visit.cookie } });
  const callback = await signIn({
    url: begun.headers.get('location') ?? '',
    username: account.username,
    password: account.password,
    patient: { name: b.name, birthDate: b.birthDate },
  });
  const login = begun.headers.getSetCookie()[0]?.split(';')[0] ?? '';
  const back = await fetch(callback, { redirect: 'manual', headers: { cookie: `${launched.visit.cookie}; ${login}` } });
  expectations.equal('the portal takes the new grant', back.status, 303);
  teller.verdict(0, 'authorization-server  a new grant, for the other patient', 'granted', 'served');

  const before = Open.parse(await portalState(stage, launched));
  const asked = before.switching;
  expectations.equal(
    'the dialog asks for two identifiers',
    asked?.fields.map(({ name }) => name),
    ['birthDate', 'recordNumberLast4'],
  );
  const votes = await stage.managerTrail.next();
  const warned = votes.find((vote) => vote.event === 'switch.vote' && vote.vote === 'accept_with_warning');
  for (const vote of votes.filter(({ event }) => event === 'switch.vote')) tellVote(stage, vote);
  expectations.truthy('orders votes with a warning: there is an unsigned draft', warned !== undefined);

  const answer = (round: number, birthDate: string): Promise<{ body: unknown }> =>
    postPortal(stage, { ...launched.visit, page: before.page }, '/confirm', {
      switch: asked?.id ?? '',
      round: String(round),
      do: 'confirm',
      birthDate,
      recordNumberLast4: b.identifierLast4,
    });
  const wrong = Ended.parse((await answer(1, a.birthDate)).body);
  expectations.equal('a wrong answer is refused, and asked again', [wrong.report, wrong.switching?.round], [undefined, 2]);
  teller.verdict(0, "portal  the first answer is A's date of birth", 'refused, asked again', 'refused');
  expectations.refusals += 1;
  counter.rest();
  const after = new ByteCounter(records, a.id);
  stage.watch(after);
  const ended = Ended.parse((await answer(2, b.birthDate)).body);
  expectations.equal('the switch is committed', ended.report?.result, 'committed');
  expectations.equal('the epoch is one higher', ended.report?.epoch, before.epoch + 1);
  expectations.equal("A's grant is revoked", ended.report?.revoked, true);
  const decided = await stage.managerTrail.next();
  expectations.equal('one commit is in the audit', decided.filter(({ event }) => event === 'switch.committed').length, 1);
  teller.verdict(
    0,
    `context-manager  epoch ${before.epoch} becomes ${ended.report?.epoch}`,
    ended.report?.result ?? 'nothing',
    'served',
  );
  teller.event({ type: 'switch', agent: 'context-manager', result: ended.report?.result, epoch: ended.report?.epoch });

  teller.scene(7, 'Too late: what was asked about A is not shown, sent or done for the other patient.');
  const arrived = wire.next('slow-lab');
  slow.send({ type: 'open' });
  const { responseBody } = await arrived;
  expectations.truthy(
    "the laboratory's answer about A reached the portal's socket after the commit",
    after.holds(responseBody.toString('utf8')),
  );
  const dropped = await late;
  const refusal = Refused.safeParse(dropped.body);
  expectations.equal('the late answer is dropped', [refusal.data?.error.code, refusal.data?.error.check], [40901, 'result']);
  expectations.truthy('nothing of A is in what the portal says', !after.holds(dropped.text));
  const drop = await trail.until(({ event, party }) => event === 'hop.dropped' && party === 'portal');
  expectations.equal('the portal wrote down that it dropped it', [drop?.code, drop?.check], [40901, 'result']);
  if (drop !== undefined) expectations.tell([drop]);
  teller.event({ type: 'dropped', agent: 'portal', code: drop?.code, check: drop?.check });

  const visit = { ...launched.visit, page: ended.page };
  const shown = await askPortal(stage, { visit }, { reason: 'What stands out?', laboratory: 'bedside-lab' });
  expectations.tell(await trail.next());
  const assessment = Assessment.safeParse(shown.body);
  const values = (list: readonly { loinc: string; newest: { value: number } }[]): unknown =>
    list.map(({ loinc, newest }) => [loinc, newest.value]).sort();
  const own = outOfRangeResults(records.ofPatient(b.id, 'Observation'), {
    source: (reference) => reference,
    gender: b.gender,
    birthDate: b.birthDate,
  });
  expectations.equal(
    'the next question is answered from the record of the new patient',
    assessment.success && values(assessment.data.findings.map(({ result }) => result)),
    values(own),
  );
  const signed = await postPortal(stage, visit, '/sign', { draft: draft.data?.draft ?? '' });
  const notHis = Refused.safeParse(signed.body);
  expectations.equal('the draft for A cannot be signed for the other patient', notHis.data?.error.code, 40302);
  expectations.tell(await trail.next());
  expectations.equal('bytes about A in what the portal showed after the commit', after.bytes('portal'), 0);
}

async function portalState({ facts }: Stage, { visit }: Launched): Promise<unknown> {
  const response = await fetch(`${facts.portal}/`, { headers: { cookie: visit.cookie, accept: 'application/json' } });
  return response.json();
}

function tellVote({ teller }: Stage, { clientId, vote }: { clientId?: string | undefined; vote?: string | undefined }): void {
  teller.verdict(1, `${clientId} votes`, (vote ?? '').replaceAll('_', ' '), 'served');
  teller.event({ type: 'vote', agent: clientId, vote });
}
