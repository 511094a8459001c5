import { defineConfig } from 'vitest/config';
import manifest from './package.json' with { type: 'json' };

// Tests run on source: `@scope/source` is the first export condition of every package.
const conditions = [`${manifest.config.scope}/source`];
const onSource = { resolve: { conditions }, ssr: { resolve: { conditions } } };
// An assertion library or provider prints through the console too; a test that lets it is no quiet test.
const setupFiles = ['./test/console-guard.ts'];

// Long enough for a machine that has other work, too: only a test that hangs meets them.
export default defineConfig({
  ...onSource,
  test: {
    // vitest leaves a core free by default, which on two is half of them.
    maxWorkers: '100%',
    projects: [
      {
        ...onSource,
        test: {
          name: 'packages',
          include: ['packages/*/test/**/*.test.ts'],
          setupFiles,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      { ...onSource, test: { name: 'examples', include: ['examples/**/*.test.ts'], setupFiles, testTimeout: 60_000 } },
      {
        ...onSource,
        test: { name: 'architecture', include: ['test/architecture/**/*.test.ts'], setupFiles, testTimeout: 60_000 },
      },
      { ...onSource, test: { name: 'spec', include: ['test/spec/**/*.test.ts'], setupFiles, testTimeout: 60_000 } },
      // Whole worlds: real processes of the built programs, one world at a time.
      {
        ...onSource,
        test: {
          name: 'whole',
          include: ['test/whole/**/*.test.ts'],
          setupFiles,
          testTimeout: 120_000,
          hookTimeout: 60_000,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
