import { RequestScope } from '@hmcp/core/request-scope';
import { describe, expect, it } from 'vitest';
import { mixesRequests, repeatedInText } from '../src/structured-text.js';

function open(patient: string): RequestScope {
  return new RequestScope({
    context: { fhirServer: 'https://ehr.example/r4', patient },
    token: undefined,
    accessToken: `token-of-${patient}`,
    envelope: { version: '1', patient, intent: { id: `intent-${patient}` } },
    by: 'https://labs.example/mcp',
    hop: 1,
  });
}

describe('an answer of a patient tool that holds an object of another request', () => {
  const [ann, bo] = [open('A1'), open('B7')];
  const row = ann.tag({ value: 7 });

  it('is known by it', () => {
    expect(mixesRequests(repeatedInText({ rows: [row] }, bo), bo)).toBe(true);
    expect(mixesRequests(repeatedInText({ rows: [row] }, ann), ann)).toBe(false);
  });

  it.each([
    ['copied whole', (answer: object) => structuredClone(answer)],
    ['copied at the top', (answer: object) => ({ ...answer, rows: [{ value: 7 }] })],
    ['left out', () => undefined],
    ['replaced', () => ({ rows: [] })],
  ])('is known where it was %s on its way out', (_, change) => {
    const { structuredContent, ...rest } = repeatedInText({ rows: [row] }, bo);
    expect(mixesRequests({ ...rest, structuredContent: change(structuredContent) }, bo)).toBe(true);
  });

  it('is no longer that of an earlier answer', () => {
    repeatedInText({ rows: [row] }, bo);
    expect(mixesRequests(repeatedInText({ rows: [bo.tag({ value: 3 })] }, bo), bo)).toBe(false);
  });
});
