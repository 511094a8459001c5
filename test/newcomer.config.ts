import { defineConfig } from 'vitest/config';

// Apart from the other tests: it asks the npm registry for what the packages depend on, and runs on tarballs, not on source.
export default defineConfig({
  test: { name: 'newcomer', include: ['test/newcomer.test.ts'], testTimeout: 120_000, hookTimeout: 300_000 },
});
