import { describe, expect, test } from 'vitest';
import { type } from './terminal.js';

describe('hmcp dev', () => {
  test.each([
    [['--agent', 'problems=serve.js'], '"--agent" needs "--scope"'],
    [['--scope', 'patient/Condition.rs', '--agent', 'serve.js'], '"--agent" takes NAME=PROGRAM'],
    [['--scope', 'patient/Condition.rs', '--agent', 'Problems=serve.js'], '"--agent" takes NAME=PROGRAM'],
    [['--scope', 'patient/Condition.rs', '--agent', '../x=serve.js'], '"--agent" takes NAME=PROGRAM'],
    [['--scope', 'patient/Condition.rs', '--agent', 'problems='], '"--agent" takes NAME=PROGRAM'],
    [['--scope', 'patient/Condition.rs', '--agent', 'labs=serve.js'], 'the world has a party "labs"'],
    [['--scope', 'patient/Condition.rs', '--agent', 'a=x.js', '--agent', 'a=y.js'], 'the world has a party "a"'],
    [['--child', 'a=x.js'], '"--child" needs "--scope"'],
    [['--scope', 'patient/Condition.rs', '--child', 'A=x.js'], '"--child" takes NAME=PROGRAM'],
    [['--scope', 'patient/Condition.rs', '--agent', 'a=x.js', '--child', 'a=y.js'], 'the world has a party "a"'],
    [
      ['--scope', 'patient/Condition.rs', '--agent', 'a=x.js', '--child', 'b=y.js', '--calls', 'a=b'],
      '"--calls" takes NAME=AGENT',
    ],
    [['--calls', 'a=labs'], '"--calls" takes NAME=AGENT'],
    [['--scope', 'patient/Condition.rs', '--agent', 'a=x.js', '--calls', 'labs'], '"--calls" takes NAME=AGENT'],
    [['--scope', 'patient/Condition.rs', '--agent', 'a=x.js', '--calls', 'labs=a'], '"--calls" takes NAME=AGENT'],
    [['--scope', 'patient/Condition.rs', '--agent', 'a=x.js', '--calls', 'a=a'], '"--calls" takes NAME=AGENT'],
    [['--scope', 'patient/Condition.rs', '--agent', 'a=x.js', '--calls', 'a=fhir'], '"--calls" takes NAME=AGENT'],
    [['--scope', 'patient/Condition.rs', '--agent', 'a=x.js', '--calls', 'a=b'], '"--calls" takes NAME=AGENT'],
  ])('refuses %j in a sentence, before anything starts', async (argv, sentence) => {
    const { code, stdout, stderr } = await type(['dev', ...argv]);
    expect([code, stdout]).toEqual([64, '']);
    expect(stderr).toContain(sentence);
  });

  test('does not start in production', async () => {
    const { code, stderr } = await type(['dev'], { env: { NODE_ENV: 'production' } });
    expect([code, stderr]).toEqual([64, expect.stringContaining('does not start with NODE_ENV=production')]);
  });
});
