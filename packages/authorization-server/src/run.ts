import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AuditSink } from '@hmcp/core';
import { parseConfig } from './config.js';
import { createAuthorizationServer } from './server.js';

/** The process, as far as it is used; another one in tests. */
export interface HostProcess {
  once(event: 'SIGTERM' | 'disconnect', listener: () => void): unknown;
  send?: ((message: unknown) => unknown) | undefined;
  exit(code: number): unknown;
  readonly stderr: { write(text: string): unknown };
}

/** Opens the audit a process writes to. */
export type OpenAudit = (options: { readonly file: string; readonly by: string }) => Promise<AuditSink>;

/**
 * Runs the server as a process: reads one JSON configuration, listens on a free loopback port, tells its parent
 * `{ type: "listening", port }`, and ends on SIGTERM or when the parent lets go. Writes nothing to stdout.
 * @param configPath file that holds an {@link AuthorizationServerConfig}
 * @throws {TypeError} when the configuration is not usable
 */
export async function runAuthorizationServer(
  configPath: string,
  openAudit: OpenAudit,
  host: HostProcess = process,
): Promise<void> {
  const config = parseConfig(JSON.parse(await readFile(configPath, 'utf8')));
  const audit = await openAudit({
    file: config.auditFile ?? join(config.state, 'authorization-server-audit.jsonl'),
    by: config.publicUrl,
  });
  const onFault = ({ route, name }: { route: string; name: string }) =>
    void host.stderr.write(`authorization server: fault in ${route} (${name})\n`);
  const server = await createAuthorizationServer({ config, audit, onFault });
  const { port, close } = await server.listen();

  let ending = false;
  const end = async () => {
    if (ending) return;
    ending = true;
    await close();
    await audit.close();
    host.exit(0);
  };
  host.once('SIGTERM', () => void end());
  host.once('disconnect', () => void end());
  host.send?.({ type: 'listening', port });
}
