import { accessSync, constants } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MOST_ROWS } from '../src/picker.js';
import { CALLBACK, crowdOf, startWorld, type World } from './world.js';

const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const absent = (() => {
  try {
    accessSync(executablePath, constants.X_OK);
    return false;
  } catch {
    return true;
  }
})();
const FLAGS = [
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

interface Violations {
  readonly violations: readonly { readonly id: string; readonly nodes: readonly { readonly html: string }[] }[];
}

describe.skipIf(absent)(`the pages in a browser${absent ? ' (skipped: no Chromium here; set CHROMIUM to one)' : ''}`, () => {
  let world: World;
  let browser: Browser;
  let shots: string;
  beforeAll(async () => {
    world = await startWorld();
    browser = await chromium.launch({ executablePath, args: FLAGS });
    shots = process.env.HMCP_SCREENSHOTS ?? (await mkdtemp(join(tmpdir(), 'hmcp-pages-')));
  }, 60_000);
  afterAll(async () => {
    await browser?.close();
    await world?.close();
    if (process.env.HMCP_SCREENSHOTS === undefined) await rm(shots, { recursive: true, force: true });
  });

  /** Opens an authorization URL; the client's redirect URI is caught before it leaves the browser. */
  async function begin(width: number, parameters: Record<string, string> = {}, at: World = world) {
    // The page's own policy forbids every script; axe is let in by the browser, not by the page.
    const context = await browser.newContext({ viewport: { width, height: 800 }, bypassCSP: true });
    const page = await context.newPage();
    let arrive: (url: string) => void = () => {};
    const callback = new Promise<string>((resolve) => {
      arrive = resolve;
    });
    await page.route(`${CALLBACK}**`, async (route) => {
      arrive(route.request().url());
      await route.fulfill({ contentType: 'text/plain', body: 'done' });
    });
    const { url, verifier } = at.authorizeUrl(parameters);
    await page.goto(url);
    if (parameters.redirect_uri === undefined) await atSignIn(page);
    return { page, callback, verifier, close: () => context.close() };
  }

  /** The page is there, and its first stop has the focus: keys typed before that would go nowhere. */
  async function arriveAt(page: Page, step: string, focus: string) {
    await page.waitForSelector(`[data-step=${step}]`);
    await page.waitForFunction((selector) => document.activeElement?.matches(selector), focus);
  }
  const atSignIn = (page: Page) => arriveAt(page, 'sign-in', '#username');
  const atPatient = (page: Page) => arriveAt(page, 'patient', 'input[type=radio]');
  const atConsent = (page: Page) => arriveAt(page, 'consent', 'h1');

  async function look(page: Page, name: string) {
    await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
    await page.evaluate(() => document.activeElement?.scrollIntoView());
    await page.addScriptTag({ path: axePath });
    const found = (await page.evaluate('axe.run()')) as Violations;
    expect(found.violations.map((violation) => `${violation.id}: ${violation.nodes[0]?.html}`)).toEqual([]);
    expect(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth)).toBe(true);
    expect(page.url()).not.toMatch(/\bann\b|\bbo\b/);
  }

  it.each([
    ['wide', 1024],
    ['narrow', 360],
  ])(
    'lead from launch to token by keyboard alone, without an accessibility violation (%s)',
    async (name, width) => {
      const { page, callback, verifier, close } = await begin(width);
      const keys = page.keyboard;
      await look(page, `${name}-1-sign-in`);
      await keys.type('clin');
      await keys.press('Tab');
      await keys.type('wrong');
      await keys.press('Enter');
      await page.waitForSelector('[role=alert]');
      await atSignIn(page);
      await look(page, `${name}-2-sign-in-failed`);
      await keys.type('clin');
      await keys.press('Tab');
      await keys.type('synthetic-only');
      await keys.press('Enter');

      await atPatient(page);
      expect(await page.locator('input:checked').count()).toBe(0);
      await look(page, `${name}-3-patient`);
      await keys.press('Space');
      await keys.press('ArrowDown');
      await look(page, `${name}-4-patient-chosen`);
      await keys.press('Enter');

      await atConsent(page);
      expect(await page.locator('.card').innerText()).toContain('Bo Hollis');
      expect(await page.locator('.card').innerText()).toContain('1961-04-23');
      await keys.press('Enter'); // one too many: opens nothing
      await look(page, `${name}-5-consent`);
      for (const stop of ['checkbox', 'checkbox', 'submit']) {
        await keys.press('Tab');
        expect(await page.evaluate(() => document.activeElement?.getAttribute('type') ?? 'submit')).toBe(stop);
      }
      await look(page, `${name}-6-consent-allow`);
      await keys.press('Enter');

      const code = new URL(await callback).searchParams.get('code') ?? '';
      const form = { grant_type: 'authorization_code', code, redirect_uri: CALLBACK, code_verifier: verifier };
      expect(await world.token('portal', form)).toMatchObject({ status: 200, claims: { patient: 'bo' } });
      await close();
    },
    60_000,
  );

  it('let the person go back to another patient, and deny', async () => {
    const { page, callback, close } = await begin(1024);
    const keys = page.keyboard;
    await keys.type('one');
    await keys.press('Tab');
    await keys.type('synthetic-only');
    await keys.press('Enter');
    await atPatient(page);
    expect(await page.locator('.rows li').count()).toBe(1);
    await keys.press('Space');
    await keys.press('Enter');
    await atConsent(page);
    for (let i = 0; i < 4; i++) await keys.press('Tab');
    await keys.press('Enter');
    await atPatient(page);
    await keys.press('Space');
    await keys.press('Enter');
    await atConsent(page);
    for (let i = 0; i < 5; i++) await keys.press('Tab');
    await keys.press('Enter');
    expect(new URL(await callback).searchParams.get('error')).toBe('access_denied');
    await close();
  }, 60_000);

  it('find one of many people by a search typed on the keyboard', async () => {
    const crowd = await startWorld((config) => ({ ...config, people: crowdOf(60) }));
    const { page, callback, close } = await begin(1024, {}, crowd);
    const keys = page.keyboard;
    await keys.type('clin');
    await keys.press('Tab');
    await keys.type('synthetic-only');
    await keys.press('Enter');
    await arriveAt(page, 'patient', '#search');
    await look(page, 'crowd-1');
    expect(await page.locator('.rows li').count()).toBe(MOST_ROWS);
    await keys.type('nobody of this name');
    await keys.press('Enter');
    await page.waitForSelector('[role=status]:has-text("Nobody")');
    await look(page, 'crowd-2-nobody');
    await page.locator('#search').fill('person 57');
    await keys.press('Enter');
    await page.waitForSelector('text=Person 57 Hollis');
    await atPatient(page);
    expect(await page.locator('.rows li').count()).toBe(1);
    await keys.press('Space');
    await keys.press('Enter');
    await atConsent(page);
    for (let i = 0; i < 3; i++) await keys.press('Tab');
    await keys.press('Enter');
    expect(new URL(await callback).searchParams.get('code')).toBeTruthy();
    await close();
    await crowd.close();
  }, 60_000);

  it('obey their own policy in the browser: no script runs, and the return to the client is allowed', async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    const complaints: string[] = [];
    page.on('console', (message) => complaints.push(message.text()));
    let arrived = '';
    await page.route(`${CALLBACK}**`, async (route) => {
      arrived = route.request().url();
      await route.fulfill({ contentType: 'text/plain', body: 'done' });
    });
    await page.goto(world.authorizeUrl().url);
    await page.fill('#username', 'clin');
    await page.fill('#password', 'synthetic-only');
    await page.click('button.main');
    await page.check('input[value=ann]');
    await page.click('button.main');
    await page.click('button.main');
    await page.waitForURL(`${CALLBACK}**`);
    expect(new URL(arrived).searchParams.get('code')).toBeTruthy();
    expect(complaints).toEqual([]);
    await context.close();
  }, 60_000);

  it('show an error page that is as accessible as the others', async () => {
    const { page, close } = await begin(1024, { redirect_uri: 'https://evil.example/callback' });
    await look(page, 'error');
    await close();
  }, 60_000);
});
