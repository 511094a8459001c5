// A program of the guides that nobody taught to catch a refusal: it ends with an error, and its audit log is closed all the same.
import { openSession } from '@hmcp/agent';
import { getLabs } from './contracts.js';
import { deskOf, openBrowser, peer, smart } from './desk.js';

await using desk = deskOf(peer('old-labs'));
const grant = await smart.authorize({ launch: 'patient', scope: 'launch/patient patient/Observation.rs', open: openBrowser });
const session = await openSession({ agent: desk, grant });
const confused = { test: 'Potassium', patientId: 'somebody-else' }; // what a model might write
await session.call('old-labs', getLabs, confused);
