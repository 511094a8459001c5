import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Binding, checkBinding, isSealed, MAX_ENVELOPE_BYTES, META, parseEnvelope, patientKey } from '../src/index.js';

const plain = {
  version: '1',
  patient: 'A1',
  tenant: 't1',
  encounter: 'E9',
  intent: { id: '0198f2c1-0000-7000-8000-000000000000' },
};
const sealed = { version: '1', seal: 'e30.e30.c2ln', intent: { id: 'i-1', epoch: 41 } };
const read = (envelope: unknown) => parseEnvelope({ [META.context]: envelope });

describe('parseEnvelope', () => {
  it.each([
    ['plain', plain, false],
    ['plain, smallest', { version: '1', patient: 'A1', intent: { id: 'i' } }, false],
    ['sealed', sealed, true],
    ['sealed with a permit', { ...sealed, permit: 'pm_3' }, true],
    ['sealed, detached', { ...sealed, detach: 'dt_3' }, true],
    ['sealed at epoch 0', { ...sealed, intent: { id: 'i-1', epoch: 0 } }, true],
  ])('reads a %s envelope as it stands', (_form, envelope, isOfSession) => {
    const parsed = read(envelope);
    expect(parsed).toEqual({ envelope });
    expect('envelope' in parsed && parsed.envelope && isSealed(parsed.envelope)).toBe(isOfSession);
  });

  it.each([
    ['no _meta', undefined],
    ['null for _meta', null],
    ['a _meta without it', { progressToken: 1 }],
    ['an envelope under another key', { 'dev.hmcp/Context': plain, context: plain }],
  ])('finds none in %s', (_what, meta) => expect(parseEnvelope(meta)).toEqual({ envelope: undefined }));

  it.each([
    ['_meta as a string', 'x'],
    ['_meta as a list', [plain]],
    ['null', { [META.context]: null }],
    ['a string', { [META.context]: JSON.stringify(plain) }],
    ['a list', { [META.context]: [plain] }],
  ])('refuses %s', (_what, meta) => expect(parseEnvelope(meta)).toEqual({ malformed: true }));

  it.each<[string, unknown]>([
    ['another version', { ...plain, version: '2' }],
    ['a version as a number', { ...plain, version: 1 }],
    ['no version', { patient: 'A1', intent: { id: 'i' } }],
    ['no patient', { version: '1', intent: { id: 'i' } }],
    ['an empty patient', { ...plain, patient: '' }],
    ['a reference for a patient', { ...plain, patient: 'Patient/A1' }],
    ['a URL for a patient', { ...plain, patient: 'https://ehr.example/r4/Patient/A1' }],
    ['a padded patient', { ...plain, patient: ' A1' }],
    ['a patient with a line break', { ...plain, patient: 'A1\n' }],
    ['two patients', { ...plain, patient: ['A1', 'B7'] }],
    ['a patient of 65 characters', { ...plain, patient: 'x'.repeat(65) }],
    ['a patient number', { ...plain, patient: 1 }],
    ['a homoglyph', { ...plain, patient: '\u0410' + '1' }],
    ['an empty tenant', { ...plain, tenant: '' }],
    ['a null encounter', { ...plain, encounter: null }],
    ['no intent', { version: '1', patient: 'A1' }],
    ['an empty intent', { ...plain, intent: { id: '' } }],
    ['an intent that says more', { ...plain, intent: { id: 'i', name: 'Ann' } }],
    ['an epoch outside a session', { ...plain, intent: { id: 'i', epoch: 1 } }],
    ['a long intent', { ...plain, intent: { id: 'i'.repeat(129) } }],
    ['an intent with spaces', { ...plain, intent: { id: 'Ann Archer' } }],
    ['an unknown member', { ...plain, name: 'Ann' }],
    ['a member named __proto__', JSON.parse(JSON.stringify(plain).replace('{', '{"__proto__":{"x":1},'))],
    ['a patient beside a seal', { ...sealed, patient: 'A1' }],
    ['a sealed one without epoch', { ...sealed, intent: { id: 'i-1' } }],
    ['a negative epoch', { ...sealed, intent: { id: 'i-1', epoch: -1 } }],
    ['half an epoch', { ...sealed, intent: { id: 'i-1', epoch: 0.5 } }],
    ['an epoch beyond exact integers', { ...sealed, intent: { id: 'i-1', epoch: 2 ** 53 } }],
    ['an epoch as text', { ...sealed, intent: { id: 'i-1', epoch: '41' } }],
    ['an empty seal', { ...sealed, seal: '' }],
    ['a huge seal', { ...sealed, seal: 'x'.repeat(MAX_ENVELOPE_BYTES) }],
    ['permit and detach together', { ...sealed, permit: 'pm_3', detach: 'dt_3' }],
    ['an endless object', ring()],
    ['a bigint', { ...plain, extra: 1n }],
  ])('refuses %s', (_what, envelope) => expect(read(envelope)).toEqual({ malformed: true }));

  it('never throws, and what it takes names exactly one bare id', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.jsonValue(),
          fc.record({ version: fc.constant('1'), patient: fc.string(), intent: fc.record({ id: fc.string() }) }),
        ),
        (value) => {
          const parsed = read(value);
          if ('malformed' in parsed || !parsed.envelope || isSealed(parsed.envelope)) return;
          expect(parsed.envelope.patient).toMatch(/^[A-Za-z0-9\-.]{1,64}$/);
        },
      ),
    );
  });
});

function ring(): unknown {
  const value: Record<string, unknown> = { ...plain };
  value.self = value;
  return value;
}

describe('checkBinding', async () => {
  const pk = await patientKey('i-1', { fhirServer: 'https://ehr.example/r4', patient: 'A1' });
  const other = await patientKey('i-1', { fhirServer: 'https://ehr.example/r4', patient: 'B7' });
  const by = 'https://labs.example/mcp';
  const expected = { pk, intent: 'i-1', by };
  const binding: Binding = { version: '1', pk, pkScope: 'intent', intent: { id: 'i-1' }, by, patients: [pk] };
  const inSession = { ...expected, sid: 's-1', epoch: 41 };
  const sessionBinding = { version: '1', pk, intent: { id: 'i-1' }, by, patients: [pk], sid: 's-1', epoch: 41 };

  it.each([
    ['a plain one', binding, expected],
    ['one about nobody', { ...binding, patients: [] }, expected],
    ['one of a session', sessionBinding, inSession],
  ])('holds for %s', (_what, raw, wanted) => expect(checkBinding(raw, wanted)).toBeUndefined());

  it.each<[string, unknown, 40901 | 40903]>([
    ['missing', undefined, 40903],
    ['null', null, 40903],
    ['of another patient', { ...binding, pk: other, patients: [other] }, 40903],
    ['around another patient', { ...binding, patients: [other] }, 40903],
    ['around two patients', { ...binding, patients: [pk, other] }, 40903],
    ['of another intent', { ...binding, intent: { id: 'i-2' } }, 40903],
    ['by another server', { ...binding, by: `${by}/` }, 40903],
    ['of no declared key', { ...binding, pkScope: undefined }, 40903],
    ['of another version', { ...binding, version: '2' }, 40903],
    ['with an unknown member', { ...binding, name: 'Ann' }, 40903],
    ['with a short key', { ...binding, pk: 'A1' }, 40903],
    ['of a session nobody asked for', { ...binding, sid: 's-1', epoch: 41 }, 40901],
    ['of an epoch nobody asked for', { ...binding, epoch: 41 }, 40901],
  ])('fails when it is %s', (_what, raw, code) => expect(checkBinding(raw, expected)).toBe(code));

  it.each<[string, unknown, 40901 | 40903]>([
    ['of an earlier epoch', { ...sessionBinding, epoch: 40 }, 40901],
    ['of a later epoch', { ...sessionBinding, epoch: 42 }, 40901],
    ['of another session', { ...sessionBinding, sid: 's-2' }, 40901],
    ['outside the session', binding, 40901],
    ['keyed by the intent', { ...sessionBinding, pkScope: 'intent' }, 40903],
  ])('fails in a session when it is %s', (_what, raw, code) => expect(checkBinding(raw, inSession)).toBe(code));
});
