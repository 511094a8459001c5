import type { TrustedManager } from '@hmcp/auth';
import { McpServer } from '@modelcontextprotocol/server';
import { describe, expect, it } from 'vitest';
import { createHmcpHandler, createProtection } from '../src/index.js';
import { signer, trusted } from './support/ward.js';
import { world } from './support/world.js';

const sound = trusted(await signer());
const [key] = sound.keys?.keys ?? [];

describe('a server does not start with an entry in managers that no seal could be verified with', () => {
  it.each<[string, object, string]>([
    ['a key that is cut', { keys: { keys: [{ ...key, x: '???' }] } }, '"managers[0].keys.keys[0]" has no usable "x"'],
    ['a private key', { keys: { keys: [{ ...key, d: 'x' }] } }, '"managers[0].keys.keys[0]" is a private key'],
    ['a list of keys', { keys: [key] }, '"managers[0].keys" must be a JWK set'],
    ['no trust domain', { trustDomain: undefined }, '"managers[0].trustDomain" is missing'],
  ])('%s', (_, change, said) => {
    const managers = [{ ...sound, ...change } as TrustedManager];
    const make = () => new McpServer({ name: 'ward', version: '1' });
    expect(() => createHmcpHandler(make, world({ managers }).env)).toThrow(said);
    expect(() => createProtection({ ...world({ managers }).env, operations: {} })).toThrow(said);
    expect(() => createProtection({ ...world({ managers: [sound] }).env, operations: {} })).not.toThrow();
  });
});
