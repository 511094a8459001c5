import { accessSync, constants } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from 'playwright-core';

const { CHROMIUM, HMCP_SCREENSHOTS } = process.env;

/** The Chromium of this machine: `CHROMIUM`, else where Debian puts it. */
export const executablePath = CHROMIUM ?? '/usr/bin/chromium';

/** False where there is none; browser tests are then skipped by name. */
export const hasBrowser = (() => {
  try {
    accessSync(executablePath, constants.X_OK);
    return true;
  } catch {
    return false;
  }
})();

/** Where screenshots are kept to be looked at; `undefined`: they are not. */
export const screenshots = HMCP_SCREENSHOTS;

export const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--disable-quic',
  '--no-first-run',
  '--disable-component-update',
  '--disable-sync',
];

const axePath = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

/** What axe-core finds wrong with a page, a line each. The page's own policy must be bypassed, for axe is a script. */
export async function violations(page: Page): Promise<string[]> {
  await page.addScriptTag({ path: axePath });
  const found = (await page.evaluate('axe.run()')) as { violations: { id: string; nodes: { html: string }[] }[] };
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`);
}
