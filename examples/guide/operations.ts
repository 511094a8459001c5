// What the server serves. An operation that is not here is not listed, and answers 40303.
const getLabs = { scope: 'patient/Observation.rs', patientArgument: 'patientId' };

export const operations = { tools: { 'get-labs': getLabs, newest: getLabs } };
