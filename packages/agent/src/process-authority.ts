import type { PatientContext } from '@hmcp/core';
import { samePatient } from '@hmcp/core';
import { askPerson, type SwitchAuthority } from './patient-switch.js';
import type { DialogField } from './switch-dialog.js';

const CONFIRM: DialogField = { name: 'confirm', title: 'Open this patient', kind: 'yes-no', required: true };

/**
 * Decides switches of a session without a manager: the person says yes, and the orchestrator counts the epoch. There are no
 * participants to survey, and nothing outside this process changes.
 * @param current whom the session is on
 * @see protocol section 1
 */
export function processAuthority(current: () => PatientContext): SwitchAuthority {
  return {
    async decide({ target, expectedEpoch, ...person }) {
      const from = current();
      const epoch = expectedEpoch + 1;
      if (samePatient(from, target)) {
        return from.encounter === target.encounter
          ? { result: 'unchanged', reason: 'unchanged' }
          : { result: 'committed', epoch };
      }
      const { answer, error } = await askPerson(person, {
        message: 'Open the patient of the new launch?',
        fields: [CONFIRM],
        round: 1,
        target,
      });
      if (answer === 'decline' || answer.confirm !== true || person.signal.aborted) {
        return { result: 'aborted', reason: 'declined', ...(error === undefined ? {} : { error }) };
      }
      return { result: 'committed', epoch };
    },
  };
}
