// Appends until it is killed, several at a time, and says which appends were acknowledged. Runs on source, as tests do.
import { fileURLToPath } from 'node:url';
import { createViteServer } from 'vitest/node';

const [file, run] = process.argv.slice(2);
const vite = await createViteServer({
  configFile: false,
  logLevel: 'silent',
  appType: 'custom',
  server: { middlewareMode: true, ws: false, watch: null },
  optimizeDeps: { noDiscovery: true },
  ssr: { noExternal: [/^@hmcp\//], resolve: { conditions: ['@hmcp/source'] } },
});
const { openFileAudit } = await vite.ssrLoadModule(fileURLToPath(new URL('../src/index.ts', import.meta.url)));
const sink = await openFileAudit({ file, by: 'http://labs.test' });

async function appendForever(writer) {
  for (let n = 0; ; n += 1) {
    const intent = `${run}-${writer}-${n}`;
    await sink.append({ event: 'request.served', outcome: 0, by: 'http://labs.test', tool: 'list-results', intent });
    // Waits for a reader that lags behind; a bare writeSync would fail with EAGAIN when the pipe is full.
    await new Promise((written) => process.stdout.write(`${intent}\n`, written));
  }
}
await Promise.all(Array.from({ length: 16 }, (_, writer) => appendForever(writer)));
