import { createTokenExchanger } from '@hmcp/auth';
import { SEAL_TYPE } from '@hmcp/core';
import { generateKeyPair, SignJWT } from 'jose';
import * as z from 'zod';
import { rawCall } from './raw-call.js';
import type { Launched } from './scene-launch.js';
import { refuse } from './scene-refusals.js';
import { type Stage, urlOf } from './stage.js';

const Opened = z.object({ sid: z.string(), epoch: z.int(), seal: z.string() });

/** Scene 5: a session of the context manager, and every way to cheat with its seal. */
export async function seals(stage: Stage, launched: Launched): Promise<void> {
  const { teller, expectations, facts, a, b, trail } = stage;
  teller.scene(5, 'A context manager seals who the session is on. A seal proves it, and cannot be bent.');
  const tokens = createTokenExchanger({
    issuer: facts.issuer,
    client: { clientId: facts.client.clientId, privateKey: launched.clientKey },
  });
  const subjectToken = launched.grant.accessToken;
  const { resource } = facts.manager;
  const { accessToken: forManager } = await tokens.exchange({
    subjectToken,
    resource,
    scope: 'hmcp:context.switch patient/Patient.r',
  });
  const target = { patient: a.id };
  const answer = await rawCall({
    url: resource,
    token: forManager,
    tool: 'hmcp-context-open',
    args: { idempotencyKey: crypto.randomUUID(), target },
  });
  const opened = Opened.safeParse(answer.result?.structuredContent);
  expectations.truthy('the manager opens a session and seals it', opened.success);
  if (!opened.success) return;
  const { sid, epoch, seal } = opened.data;

  const labs = urlOf(stage, 'labs');
  const { accessToken: token } = await tokens.exchange({
    subjectToken,
    resource: labs,
    scope: 'patient/Observation.rs',
    sid,
    seal,
  });
  const sealed = (proof: string): object => ({ version: '1', seal: proof, intent: { id: crypto.randomUUID(), epoch } });
  const call = { url: labs, tool: 'list-results', token };
  await trail.next();
  const served = await rawCall({ ...call, args: { category: 'laboratory' }, envelope: sealed(seal) });
  expectations.truthy('the sealed envelope is served', served.error === undefined && served.status === 200);
  expectations.tell(await trail.next());

  const [header = '', payload = '', signature = ''] = seal.split('.');
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) as Record<string, unknown>;
  const bent = Buffer.from(JSON.stringify({ ...claims, patient: b.id })).toString('base64url');
  const { privateKey } = await generateKeyPair('ES256');
  const forged = await new SignJWT({ ...claims, iss: `${facts.issuer}/somebody` })
    .setProtectedHeader({ alg: 'ES256', typ: SEAL_TYPE, kid: 'seal-1' })
    .sign(privateKey);
  const bad = { code: 40903, check: 'seal' };
  await refuse(
    stage,
    'an envelope changed after sealing',
    await rawCall({ ...call, envelope: sealed(`${header}.${bent}.${signature}`) }),
    bad,
  );
  await refuse(stage, 'a seal of a manager nobody listed', await rawCall({ ...call, envelope: sealed(forged) }), bad);
  await refuse(stage, 'an access token presented as a seal', await rawCall({ ...call, envelope: sealed(token) }), bad);
  await refuse(stage, 'a seal presented as an access token', await rawCall({ ...call, token: seal }), {
    status: 401,
    check: 'token',
  });
  await refuse(stage, 'a token of a session without its seal', await rawCall(call), { code: 42801, check: 'seal' });
}
