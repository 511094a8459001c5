import { createSealVerifier, createTokenVerifier, type TrustedManager } from '@hmcp/auth';
import { meaningOf } from '@hmcp/core';
import { counted } from '../counted.js';
import type { DescribedServer } from './description.js';
import { type Finding, failure, note, warning } from './finding.js';

const MODES: Readonly<Record<DescribedServer['context'], string>> = {
  token: 'takes a token that names one patient, and checks an envelope when there is one',
  envelope: 'demands an envelope',
  session: 'demands the seal of a session',
};

/**
 * What a server demands and what it can hold: its mode, its effects, and whether its options start at all. By its description: a
 * server tells its mode to callers with a token only, and its trust lists to nobody.
 */
export function judgeServer(server: DescribedServer): readonly Finding[] {
  const { name, context, effects, managers } = server;
  const findings = [optionsOf(server)];
  if (context === 'session' && managers.length === 0) {
    const { says, mend } = meaningOf(42801, 'seal');
    findings.push(
      failure('mode', name, `context "session" and no manager: every request about a patient is 42801 (${says})`, mend),
    );
  } else findings.push(note('mode', name, `described as context "${context}", which ${MODES[context]}; not asked`));
  if (effects && managers.length === 0)
    findings.push(
      warning(
        'mode',
        name,
        'effects without a manager: allowed by token and policy alone, audited "fence: none"',
        'name the context manager in `managers`, so that an effect needs a permit of the current epoch',
      ),
    );
  return [...findings, ...fits(server)];
}

/** The constructors themselves judge what they would be given. */
function optionsOf({ name, resource, issuers, managers, algorithms, leewaySeconds }: DescribedServer): Finding {
  try {
    createTokenVerifier({
      resource,
      issuers: issuers as Parameters<typeof createTokenVerifier>[0]['issuers'],
      algorithms: algorithms as Parameters<typeof createTokenVerifier>[0]['algorithms'],
      leewaySeconds,
    });
    createSealVerifier({ managers: managers as readonly TrustedManager[] });
  } catch (error) {
    // The message names the option and never its value.
    if (error instanceof TypeError)
      return failure('trust', name, error.message, 'correct this option: the server would not start');
    throw error;
  }
  const listed = `${counted(issuers.length, 'issuer')}, ${counted(managers.length, 'manager')}`;
  return note('trust', name, `described with trust lists that are usable (${listed}); not asked`);
}

/** A manager whose seals could never fit a token of this server. */
function fits({ name, issuers, managers }: DescribedServer): readonly Finding[] {
  return managers.flatMap(({ issuer, tokenIssuers, fhirServers }) => {
    const known = issuers.some((one) => tokenIssuers.includes(one.issuer));
    const shared = issuers.some(({ fhirServer }) => fhirServers.includes(fhirServer));
    if (known && shared) return [];
    const { says } = known ? meaningOf(40302, 'equality') : meaningOf(40903, 'seal');
    const found = `no seal of ${issuer} can fit a token of this server (${says})`;
    const change = known
      ? 'name the FHIR base of an issuer of this server in `fhirServers` of the manager'
      : 'name an issuer of this server in `tokenIssuers` of the manager';
    return [failure('trust', name, found, change)];
  });
}
