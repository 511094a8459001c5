// The surfaces on real pipes, as a child process. Runs on source, as tests do; tells its parent over IPC what was reached.
import { fileURLToPath } from 'node:url';
import { createViteServer } from 'vitest/node';

const [patient, other, guarded] = process.argv.slice(2);
const vite = await createViteServer({
  configFile: false,
  logLevel: 'silent',
  appType: 'custom',
  server: { middlewareMode: true, ws: false, watch: null },
  optimizeDeps: { noDiscovery: true },
  ssr: { noExternal: [/^@hmcp\//], resolve: { conditions: ['@hmcp/source'] } },
});
const load = (path) => vite.ssrLoadModule(fileURLToPath(new URL(path, import.meta.url)));
const { createHmcpHandler, defineAgent, serveStdio } = await load('../../src/index.ts');
const { surfaces, OPERATIONS } = await load('./surfaces.ts');
const { world } = await load('./world.ts');
const mcp = await import('@modelcontextprotocol/server/stdio');

const { env, issuer, audit } = world({ operations: OPERATIONS });
const tokens = {
  own: issuer.issue(patient),
  other: issuer.issue(other),
  narrow: issuer.issue(patient, { scope: 'patient/Condition.rs' }),
};
const reached = [];
const factory = surfaces((what) => reached.push(what), patient);
process.on('message', (asked) => {
  if (asked === 'report') process.send({ reached: reached.splice(0), records: audit.records.splice(0) });
});
if (guarded === 'unguarded') mcp.serveStdio(factory);
else
  serveStdio(
    defineAgent('surfaces', (given) => createHmcpHandler(factory, given)),
    env,
  );
process.send({ tokens });
