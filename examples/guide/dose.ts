import { openSession } from '@hmcp/agent';
import { definePatientTool } from '@hmcp/core';
import * as z from 'zod';
import { deskOf, manager, openBrowser, peer, smart } from './desk.js';

const recordDose = definePatientTool({
  name: 'record-dose',
  description: 'Records that a dose was given',
  scope: 'patient/MedicationAdministration.c',
  input: z.object({ dose: z.string(), drug: z.string() }),
  output: z.object({ dose: z.string(), isNew: z.boolean() }),
});
const ofSessions = 'launch/patient patient/Patient.r hmcp:context.switch hmcp:context.participate';

await using desk = deskOf(peer('doses'));
const scope = `${ofSessions} ${recordDose.scope}`;
const grant = await smart.authorize({ launch: 'patient', scope, open: openBrowser });
const visit = await openSession({ agent: desk, grant, manager, participants: ['doses'] });

const morning = { dose: 'morning-1', drug: 'Amoxicillin' };
await visit.act(async (signal) => {
  console.log(await visit.call('doses', recordDose, morning, { signal }));
  console.log(await visit.call('doses', recordDose, morning, { signal })); // again, for the same act: the first answer got lost, say
});

await visit.close();
await grant.revoke();
