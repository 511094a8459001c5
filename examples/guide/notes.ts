import type { ParticipationOptions } from '@hmcp/agent';
import { createHmcpHandler, defineAgent, patientTool } from '@hmcp/server';
import { McpServer } from '@modelcontextprotocol/server';
import { writeNote } from './contracts.js';

/** Notes that nobody has saved yet, by session and epoch: never by whoever is on the screen now. */
const drafts = new Map<string, Map<string, string>>();
const key = ({ sid, epoch }: { sid: string; epoch: number }): string => `${sid} ${epoch}`;

export const notes = defineAgent('notes', (env) =>
  createHmcpHandler(() => {
    const server = new McpServer({ name: 'notes', version: '1.0.0' });
    patientTool(server, writeNote, async ({ text }, { effect, session }) => {
      const note = crypto.randomUUID();
      await effect('note', async () => {
        // with a permit of this session and epoch; once for this act of the person
        const of = key(session ?? { sid: 'none', epoch: 0 });
        drafts.set(of, new Map([...(drafts.get(of) ?? []), [note, text]]));
      });
      return { note };
    });
    return server;
  }, env),
);

/** What this agent says and does when the person goes to another patient. */
export const part: Pick<ParticipationOptions, 'role' | 'prepare' | 'drain'> = {
  role: 'effector',
  prepare: (asked) => {
    const unsaved = [...(drafts.get(key(asked))?.keys() ?? [])].map((id) => ({ id, savable: true }));
    return { vote: unsaved.length === 0 ? 'accept' : 'accept_with_warning', unsaved };
  },
  drain: (asked) => {
    const mine = drafts.get(key(asked));
    drafts.delete(key(asked)); // here they would go to the record of their patient
    return { saved: asked.save.filter((id) => mine?.has(id)) };
  },
};
