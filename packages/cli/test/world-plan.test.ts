import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { shippedRecords } from '@hmcp/clinic';
import { expect, test } from 'vitest';
import { planWorld } from '../src/world-plan.js';

test('the manager of a world has as effectors orders, who is said to be one, and of whom nothing is said and whose scope can change anything', async () => {
  const state = await mkdtemp(join(tmpdir(), 'hmcp-plan-'));
  try {
    await mkdir(join(state, 'keys'));
    const extra = { module: 'agent.js' };
    const extras = [
      { ...extra, name: 'reader', scope: 'patient/Observation.rs patient/hmcp:read' },
      { ...extra, name: 'doses', scope: 'patient/Observation.rs patient/MedicationAdministration.c' },
      { ...extra, name: 'notes', scope: 'patient/hmcp:write' },
      { ...extra, name: 'said', scope: 'patient/Observation.rs', effector: true },
      { ...extra, name: 'denied', scope: 'patient/Observation.u', effector: false },
      { ...extra, name: 'bystander' },
    ];
    const { processes } = await planWorld(
      { records: await shippedRecords(), state, extras },
      (name) => `http://127.0.0.1/${name}`,
    );
    const config = processes.find(({ name }) => name === 'context-manager')?.config;
    const { clients } = config as { clients: { clientId: string; effector?: boolean }[] };
    const effectors = clients.filter(({ effector }) => effector).map(({ clientId }) => clientId);
    expect(effectors).toEqual(['orders', 'doses', 'notes', 'said']);
  } finally {
    await rm(state, { recursive: true });
  }
});
