import { defineConfig } from 'vitest/config';

// Tests run on source: `@hmcp/source` is the first export condition of every package.
const resolve = { conditions: ['@hmcp/source'] };
const ssr = { resolve: { conditions: ['@hmcp/source'] } };

export default defineConfig({
  resolve,
  ssr,
  test: {
    projects: [
      { resolve, ssr, test: { name: 'packages', include: ['packages/*/test/**/*.test.ts'], testTimeout: 20_000 } },
      { resolve, ssr, test: { name: 'architecture', include: ['test/architecture/**/*.test.ts'], testTimeout: 60_000 } },
      { resolve, ssr, test: { name: 'spec', include: ['test/spec/**/*.test.ts'], testTimeout: 20_000 } },
      { resolve, ssr, test: { name: 'whole', include: ['test/whole/**/*.test.ts'], testTimeout: 120_000, hookTimeout: 60_000 } },
    ],
  },
});
