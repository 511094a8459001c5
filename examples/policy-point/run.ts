import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { RecordedExchange, WorldFacts } from '@hmcp/cli/world';
import { isLaboratory } from '@hmcp/clinic';
import { META } from '@hmcp/core';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { importJWK, type JWK, SignJWT } from 'jose';
import { idsOf } from '../checks.js';
import { playInWorld } from '../world-run.js';

// A clinician whose token names no patient asks about two of them. The laboratory asks the decision point: yes for one, no for the
// other, and whenever it does not decide, nobody is served. Fails unless each ends with its code, and no refusal names anybody.

const program = (name: string): string => fileURLToPath(new URL(`./${name}.js`, import.meta.url));
const scope = 'user/Observation.rs';
const extras = [
  { name: 'ward-labs', module: program('serve'), scope },
  { name: 'decision-point', module: program('decision-point'), calledBy: ['ward-labs'], audits: false },
];
const wire: RecordedExchange[] = [];

await playInWorld({ extras, record: (exchange) => wire.push(exchange) }, async (run) => {
  const { checks, records, a, b, facts } = run;
  const url = run.urlOf('ward-labs');
  const client = new Client({ name: 'any-client', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } });
  const headers = { authorization: `Bearer ${await tokenOfAPerson(facts, url)}` };
  await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }));

  const ask = (patient: string) =>
    client.callTool({
      name: 'get-labs',
      arguments: {},
      _meta: { [META.context]: { version: '1', patient, intent: { id: crypto.randomUUID() } } },
    });
  const point = run.channel('decision-point');
  const become = async (mood: string): Promise<void> => {
    const changed = point.next('changed');
    point.send({ type: mood });
    await changed;
  };

  const { content } = await ask(a.id);
  const [results] = content.flatMap((part) => (part.type === 'text' ? [JSON.parse(part.text) as { id: unknown }[]] : []));
  process.stdout.write(`served: ${results?.length} results\n`);
  const own = records.ofPatient(a.id, 'Observation').filter(isLaboratory);
  checks.is('results of the patient of the care team', idsOf(results ?? []), idsOf(own));
  const before = wire.length;
  await checks.refused('a patient of another care team', ask(b.id), 40302, 'policy');
  for (const mood of ['slow', 'gone', 'failing', 'garbage', 'ambiguous']) {
    await become(mood);
    await checks.refused(`a decision point that is ${mood}`, ask(a.id), 50301, 'policy');
  }
  await become('well');
  checks.is('and well again', (await ask(a.id)).isError, undefined);
  await client.close();

  const bodies = (seen: readonly RecordedExchange[]): string =>
    seen.flatMap(({ to, responseBody }) => (to === 'ward-labs' ? [responseBody.toString('utf8')] : [])).join('\n');
  const refusals = bodies(wire.slice(before))
    .split('\n')
    .filter((line) => line.includes('"error"'));
  checks.is('refusals on the wire', refusals.length, 6);
  checks.is(
    'a refusal that names a patient',
    refusals.some((line) => line.includes(a.id) || line.includes(b.id)),
    false,
  );
  checks.is('the same search finds what was served', bodies(wire).includes(a.id), true);
  const asked = wire.filter(({ to }) => to === 'decision-point');
  checks.is(
    'questions in an address',
    asked.some(({ path }) => path.includes(a.id)),
    false,
  );
  await run.stop();
  checks.is('what the laboratory recorded', await run.decisions('ward-labs'), [
    'request.served get-labs',
    'request.refused get-labs 40302',
    ...Array.from({ length: 5 }, () => 'request.refused get-labs 50301'),
    'request.served get-labs',
  ]);
});

/** The development authorization server picks a patient at every launch; a person's token without one is signed here with its key. */
async function tokenOfAPerson({ signingKeys, issuer, client, fhirServer }: WorldFacts, audience: string): Promise<string> {
  const { keys } = JSON.parse(await readFile(signingKeys, 'utf8')) as { keys: JWK[] };
  const key = keys.find(({ alg }) => alg === 'ES256');
  if (key?.kid === undefined) throw new TypeError('the development keys hold no ES256 key');
  const now = Math.floor(Date.now() / 1000);
  const fhirUser = `${fhirServer}/Practitioner/dr-okafor`;
  return new SignJWT({ scope, client_id: client.clientId, fhirUser, __hmcp: { v: 1, chain: [] } })
    .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: key.kid })
    .setIssuer(issuer)
    .setSubject('dr-okafor')
    .setAudience(audience)
    .setIssuedAt(now)
    .setExpirationTime(now + 300)
    .setJti(crypto.randomUUID())
    .sign(await importJWK(key, 'ES256'));
}
