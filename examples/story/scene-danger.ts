import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { type Stage, urlOf } from './stage.js';

/** Scene 0: what goes wrong today. A tool that takes the patient as an argument answers for whomever the caller names. */
export async function danger(stage: Stage): Promise<void> {
  const { teller, expectations, b, counter } = stage;
  teller.scene(0, 'The danger: a tool of the bare MCP SDK believes the patient id it is given.');
  teller.say('The person is on A. A scripted caller, standing for a model that mixes up two people, asks for the other one.');
  const client = new Client({ name: 'scripted-caller', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } });
  await client.connect(new StreamableHTTPClientTransport(new URL(urlOf(stage, 'front-desk'))));
  const answer = await client.callTool({ name: 'get-lab-results', arguments: { patientId: b.id } });
  await client.close();
  const text = JSON.stringify(answer);
  expectations.truthy("the bare tool answers with the wrong person's values", counter.holds(text));
  teller.verdict(
    0,
    'front-desk  get-lab-results',
    `${counter.bytes('front-desk').toLocaleString('en')} bytes of the wrong person`,
    'wrong',
  );
  teller.event({ type: 'call', agent: 'front-desk', tool: 'get-lab-results', wrongPatient: true });
}
