import { createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import { type Assessment, assess, listMedications, listResults } from './contracts.js';
import { handle } from './handles.js';
import { outOfRangeResults } from './laboratory.js';
import { medicationsBearingOn } from './medication-safety.js';

/** The triage agent: asks a laboratory and the medications agent by itself, and computes what stands out from both. */
export const triage = defineAgent('triage', (env) =>
  createHmcpHandler(() => {
    const server = new McpServer({ name: 'triage', version: '1.0.0' });
    patientTool(server, assess, async ({ laboratory }, { call, fhir }) => {
      const asked = [
        call(laboratory, listResults, { category: 'laboratory' }),
        call('medications', listMedications, { status: 'active' }),
        fhir.search('Patient'),
      ] as const;
      await Promise.allSettled(asked);
      const [{ results }, { medications }, [person]] = await Promise.all(asked);
      return summarize({ results, medications, person }, (reference) => handle(env.pseudonymKey, reference));
    });
    return server;
  }, env),
);

/** What an assessment is computed from, as FHIR resources. */
export interface ChartExcerpt {
  readonly results: readonly unknown[];
  readonly medications: readonly unknown[];
  /** The Patient, for sex and age; the widest ranges apply without. */
  readonly person?: unknown;
}

/**
 * The assessment of one chart: each result out of range now with its newest and previous value, and the active medications
 * that bear on it. Every source is named by the opaque reference `source` makes of `Type/id`.
 */
export function summarize({ results, medications, person }: ChartExcerpt, source: (reference: string) => string): Assessment {
  const { gender, birthDate } = (person ?? {}) as { gender?: string; birthDate?: string };
  const outOfRange = outOfRangeResults(results, { source, gender, birthDate });
  const bearing = medicationsBearingOn(medications, outOfRange, { source });
  return {
    findings: outOfRange.map((result) => ({
      result,
      medications: bearing.filter(({ bearsOn }) => bearsOn.some(({ loinc }) => loinc === result.loinc)),
    })),
    considered: { results: results.length, medications: medications.length },
  };
}
