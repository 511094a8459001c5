import { openFileAudit } from '@hmcp/audit';
import { createTokenVerifier } from '@hmcp/auth';
import type { AuditSink } from '@hmcp/core';
import { type AgentEnv, createHmcpHandler, type HmcpHandler, patientTool } from '@hmcp/server';
import { createMcpHandler, type McpHttpHandler, McpServer } from '@modelcontextprotocol/server';
import type { JSONWebKeySet } from 'jose';
import { answerOfTool, issuerOf, RESOURCE, tool } from './workload.js';

const IDENTITY = { name: 'labs', version: '1.0.0' };

type Answer = ReturnType<typeof answerOfTool>;

/** The tool's own work: it reads its rows from JSON, as one that has them from a FHIR server does. No two requests share an object. */
function handlerOfTool(): () => Answer {
  const json = JSON.stringify(answerOfTool());
  return () => JSON.parse(json) as Answer;
}

/** The tool on the bare SDK: the same name, description, input and output, answered in the same form. */
export function bareHandler(): McpHttpHandler {
  const results = handlerOfTool();
  const { name, description, input: inputSchema, output: outputSchema } = tool;
  return createMcpHandler(() => {
    const server = new McpServer(IDENTITY);
    server.registerTool(name, { description, inputSchema, outputSchema }, async () => {
      const structuredContent = results();
      return { content: [{ type: 'text', text: JSON.stringify(structuredContent) }], structuredContent };
    });
    return server;
  });
}

/** The tool behind gate and guard, in its strictest form but for a session: envelope required. */
export function guardedHandler(jwks: JSONWebKeySet, audit: AuditSink): HmcpHandler {
  const results = handlerOfTool();
  const issuer = issuerOf(jwks);
  const env: AgentEnv = {
    resource: RESOURCE,
    authorizationServers: [issuer.issuer],
    verifier: createTokenVerifier({ resource: RESOURCE, issuers: [issuer] }),
    audit,
    pseudonymKey: 'a key of the bench and of nothing else',
    context: 'envelope',
  };
  return createHmcpHandler(() => {
    const server = new McpServer(IDENTITY);
    patientTool(server, tool, async () => results());
    return server;
  }, env);
}

/** Resolves at once: the guard without the wait for a disk. */
export function memoryAudit(): AuditSink {
  return { append: async () => undefined, close: async () => undefined };
}

/** The log of production, in a folder that is on a disk. */
export function fileAudit(file: string): Promise<AuditSink> {
  return openFileAudit({ file, by: RESOURCE });
}

/** The planted fault: every record takes this process 3 ms of computing. */
export function burdenedAudit(): AuditSink {
  return {
    append: async () => {
      const until = performance.now() + 3;
      while (performance.now() < until);
    },
    close: async () => undefined,
  };
}
