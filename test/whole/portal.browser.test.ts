import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { signIn } from '@hmcp/authorization-server';
import { patientSummaries, shippedRecords } from '@hmcp/clinic';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { executablePath, FLAGS, hasBrowser, screenshots, violations } from './support/browser.js';
import { type DevWorld, startDev } from './support/dev-world.js';

const ADA = /Adalinde Testwright/;
const BEA = /Beatrisa Testwright/;

let world: DevWorld;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hmcp-whole-'));
  world = await startDev({ state: folder });
});
afterAll(async () => {
  await world?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** A browser without pages: it keeps the portal's cookies, as they are set and taken away. */
class Person {
  readonly cookies = new Map<string, string>();

  async go(path: string, init: RequestInit = {}): Promise<Response> {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const url = new URL(path, world.ready.portal);
    const response = await fetch(url, { redirect: 'manual', ...init, headers: { ...init.headers, cookie } });
    for (const line of response.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      if (value === '') this.cookies.delete(name);
      else this.cookies.set(name, value);
    }
    return response;
  }

  /** Begins a sign-in and goes through the authorization server's pages. @returns the callback URL */
  async signIn(patient: number, path = '/launch'): Promise<string> {
    const begun = await this.go(path);
    const { username = '', password = '' } = world.ready.accounts[0] ?? {};
    return signIn({ url: begun.headers.get('location') ?? '', username, password, patient });
  }

  /** Signs in, picks, and opens the portal's page. */
  async visit(patient: number): Promise<string> {
    expect((await this.go(await this.signIn(patient))).status).toBe(303);
    return (await this.go('/')).text();
  }

  post(path: string, fields: Record<string, string>, headers: Record<string, string> = {}): Promise<Response> {
    return this.go(path, { method: 'POST', body: new URLSearchParams(fields), headers });
  }
}

const hidden = (html: string, name: string): string => new RegExp(`name="${name}" value="([^"]+)"`).exec(html)?.[1] ?? '';
const typedFor = (name: RegExp) => {
  const who = patientSummaries(shippedRecords()).find((one) => name.test(one.name));
  return { birthDate: who?.birthDate ?? '', recordNumberLast4: who?.identifierLast4 ?? '' };
};
const pageOf = (html: string): string => /name="page" value="([^"]+)"/.exec(html)?.[1] ?? '';
const reason = 'What stands out?';

describe('the portal', () => {
  it('asks about the chart its page showed: after another one was opened in another tab, nothing is asked', async () => {
    const person = new Person();
    const first = await person.visit(0);
    expect(first).toMatch(ADA);
    const second = await person.visit(1);
    expect(second).toMatch(BEA);

    for (const path of ['/ask', '/close']) {
      const late = await person.post(path, { reason, page: pageOf(first) });
      const html = await late.text();
      expect(late.status).toBe(409);
      expect(html).toContain('Nothing was asked');
      expect(html).toMatch(BEA);
      expect(html).not.toMatch(ADA);
      expect(html).not.toContain('out of range');
    }
    expect((await person.post('/ask', { reason, page: pageOf(second) })).status).toBe(200);
  });

  it.each([
    ['without the page it came from', {}, {}, 409],
    ['from a page of nobody', { page: crypto.randomUUID() }, {}, 409],
    ['from another origin', { page: 'own' }, { origin: 'https://evil.example' }, 404],
    ['with too long a form', { page: 'own', more: 'x'.repeat(20_000) }, {}, 413],
  ])('answers no form %s', async (_, fields: Record<string, string>, headers: Record<string, string>, status) => {
    const person = new Person();
    const page = pageOf(await person.visit(0));
    const sent = { ...fields, ...(fields.page === 'own' ? { page } : {}) };
    const answer = await person.post('/ask', { reason, ...sent }, headers);
    expect(answer.status).toBe(status);
    expect(await answer.text()).not.toContain('out of range');
    expect((await person.post('/ask', { reason, page })).status).toBe(200);
  });

  it('takes no cookie a browser brings: each sign-in and each visit has a new one', async () => {
    const planted = crypto.randomUUID();
    const person = new Person();
    person.cookies.set('visit', planted);
    const callback = await person.signIn(0);
    expect([...person.cookies.values()].filter((value) => value === planted)).toHaveLength(1);
    await person.go(callback);
    expect(person.cookies.get('visit')).toMatch(/^[0-9a-f-]{36}$/);
    expect(person.cookies.get('visit')).not.toBe(planted);

    const attacker = new Person();
    attacker.cookies.set('visit', planted);
    expect(await (await attacker.go('/')).text()).toContain('No chart is open');
  });

  it('finishes a sign-in only in the browser that began it, and only once', async () => {
    const [person, other] = [new Person(), new Person()];
    const callback = await person.signIn(0);
    await other.signIn(1);
    const foreign = await other.go(callback);
    expect(foreign.status).toBe(400);
    expect(await foreign.text()).toContain('Nothing was opened');
    const [login] = [...person.cookies];
    expect((await person.go(callback)).status).toBe(303);
    if (login) person.cookies.set(...login);
    expect((await person.go(callback)).status).toBe(400);
    expect(await (await person.go('/')).text()).toMatch(ADA);
  });

  it('finishes two sign-ins of one browser, the later one last', async () => {
    const person = new Person();
    const [first, second] = [await person.signIn(0), await person.signIn(1)];
    expect((await person.go(first)).status).toBe(303);
    expect((await person.go(second)).status).toBe(303);
    const html = await (await person.go('/')).text();
    expect(html).toMatch(BEA);
    expect(html).not.toMatch(ADA);
  });

  it('forgets a chart that was closed, for whoever still has the cookie', async () => {
    const person = new Person();
    const page = pageOf(await person.visit(0));
    const stolen = new Person();
    for (const [name, value] of person.cookies) stolen.cookies.set(name, value);
    expect((await person.post('/close', { page })).status).toBe(303);
    expect(person.cookies.has('visit')).toBe(false);
    expect((await stolen.post('/ask', { reason, page })).status).toBe(401);
    expect(await (await stolen.go('/')).text()).not.toMatch(ADA);
  });

  it('is neither cached nor framed, runs no script, and names nobody in its title', async () => {
    const person = new Person();
    const html = await person.visit(0);
    const { headers } = await person.go('/');
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('content-security-policy')).toMatch(/^default-src 'none'; style-src 'sha256-.*frame-ancestors 'none'/);
    expect(html).not.toContain('<script');
    expect(/<title>(.*)<\/title>/.exec(html)?.[1]).toBe('Chart open · Portal');
  });
});

describe('a switch at the portal', () => {
  /** Signs in for the next patient, from the page of a visit. @returns the portal's page then */
  async function switching(person: Person, patient: number): Promise<string> {
    expect((await person.go(await person.signIn(patient, '/switch'))).status).toBe(303);
    return (await person.go('/')).text();
  }
  const confirm = (person: Person, dialog: string, typed: Record<string, string>, verb = 'confirm') => {
    const form = { page: pageOf(dialog), switch: hidden(dialog, 'switch'), round: hidden(dialog, 'round'), do: verb };
    return person.post('/confirm', { ...form, ...typed });
  };

  it('is answered in one of two tabs; a page of before it asks nothing afterwards, nor does its dialog', async () => {
    const person = new Person();
    const first = await person.visit(0);
    const dialog = await switching(person, 1);
    expect(dialog).toMatch(ADA);
    expect(dialog).toMatch(BEA);
    for (const path of ['/ask', '/draft', '/sign']) {
      const meanwhile = await person.post(path, { reason, text: 'x', page: pageOf(first) });
      expect(meanwhile.status).toBe(409);
      expect(await meanwhile.text()).toContain('Nothing was asked');
    }
    const [one, two] = await Promise.all([confirm(person, dialog, typedFor(BEA)), confirm(person, dialog, typedFor(ADA))]);
    expect([one.status, two.status]).toEqual([200, 200]);
    for (const html of [await one.text(), await two.text()]) {
      expect(html).toContain('You are now on the patient shown above.');
      expect(html).toMatch(BEA);
      expect(html).not.toMatch(ADA);
    }
    const late = await person.post('/ask', { reason, page: pageOf(first) });
    expect(late.status).toBe(409);
    expect(await late.text()).not.toMatch(ADA);
    expect((await confirm(person, dialog, typedFor(BEA))).status).toBe(409);
  });

  it('belongs to the browser that began it, and to the visit it was begun in', async () => {
    const [person, other] = [new Person(), new Person()];
    await person.visit(0);
    await other.visit(0);
    const callback = await person.signIn(1, '/switch');
    expect((await other.go(callback)).status).toBe(400);
    const closed = pageOf(await (await person.go('/')).text());
    await person.post('/close', { page: closed });
    expect((await person.go(callback)).status).toBe(401);
    expect(await (await other.go('/')).text()).toMatch(ADA);
    expect((await new Person().go('/switch')).status).toBe(401);
  });

  it('begun again while its dialog waits, and given up, leaves the person where they were', async () => {
    const person = new Person();
    await person.visit(0);
    const abandoned = await switching(person, 1);
    const dialog = await switching(person, 1);
    expect(hidden(dialog, 'switch')).not.toBe(hidden(abandoned, 'switch'));
    expect((await confirm(person, abandoned, typedFor(BEA))).status).toBe(409);
    const stayed = await (await confirm(person, dialog, {}, 'decline')).text();
    expect(stayed).toContain('You are still on the patient shown above.');
    expect(stayed).toMatch(ADA);
    expect(stayed).not.toMatch(BEA);
    expect((await person.post('/ask', { reason, page: pageOf(stayed) })).status).toBe(200);
  });

  it('closed in the middle shows nobody', async () => {
    const person = new Person();
    await person.visit(0);
    const dialog = await switching(person, 1);
    expect((await person.post('/close', { page: pageOf(dialog) })).status).toBe(303);
    const html = await (await person.go('/')).text();
    expect(html).not.toMatch(ADA);
    expect(html).not.toMatch(BEA);
  });
});

describe.skipIf(!hasBrowser)(
  `the portal in a browser${hasBrowser ? '' : ' (skipped: no Chromium here; set CHROMIUM to one)'}`,
  () => {
    let browser: Browser;
    beforeAll(async () => {
      browser = await chromium.launch({ executablePath, args: FLAGS });
    }, 60_000);
    afterAll(() => browser?.close());

    async function look(page: Page, name: string): Promise<void> {
      if (screenshots !== undefined) await page.screenshot({ path: join(screenshots, `portal-${name}.png`), fullPage: true });
      expect(await violations(page)).toEqual([]);
      expect(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth)).toBe(true);
    }

    /** Presses Tab until what has the focus reads so. */
    async function tabTo(page: Page, label: string): Promise<void> {
      for (let i = 0; i < 20; i++) {
        const focused = await page.evaluate(() => document.activeElement?.textContent?.trim() ?? '');
        if (focused === label) return;
        await page.keyboard.press('Tab');
      }
      throw new Error(`nothing that reads "${label}" can be reached by Tab`);
    }

    it.concurrent.each([
      ['wide', 1024],
      ['narrow', 360],
    ])('leads from sign-in to answer, refusal, draft, switch, signature and close by keyboard alone, without an accessibility violation (%s)', async (name, width) => {
      // The page's own policy forbids every script; axe is let in by the browser, not by the page.
      const context: BrowserContext = await browser.newContext({ viewport: { width, height: 800 }, bypassCSP: true });
      const page = await context.newPage();
      const keys = page.keyboard;
      await page.goto(world.ready.portal);
      await look(page, `${name}-1-closed`);
      await tabTo(page, 'Sign in');
      await keys.press('Enter');

      await page.waitForSelector('[data-step=sign-in] #username:focus');
      const { username = '', password = '' } = world.ready.accounts[0] ?? {};
      await keys.type(username);
      await keys.press('Tab');
      await keys.type(password);
      await keys.press('Enter');
      await page.waitForSelector('[data-step=patient] input[type=radio]:focus');
      await keys.press('Space');
      await keys.press('Enter');
      await page.waitForSelector('[data-step=consent]');
      await tabTo(page, 'Allow');
      await keys.press('Enter');

      await page.waitForSelector('#reason:focus');
      expect(await page.locator('.banner').innerText()).toMatch(ADA);
      await look(page, `${name}-2-open`);
      await keys.press('Enter');
      await page.waitForSelector('#answer:focus');
      expect(await page.locator('#answer').innerText()).toBe('5 results out of range');
      expect(await page.locator('.finding').first().innerText()).toMatch(
        /Creatinine.*High[\s\S]*1\.49 mg\/dL[\s\S]*1\.24 mg\/dL/,
      );
      expect(await page.title()).toBe('Answer · Portal');
      await look(page, `${name}-3-answer`);

      // A laboratory nobody declared: a check refuses two hops from here.
      await page.evaluate(() => {
        const field = Object.assign(document.createElement('input'), { type: 'hidden', name: 'laboratory', value: 'nowhere' });
        document.querySelector('form.ask')?.append(field);
      });
      await tabTo(page, 'Ask triage');
      await keys.press('Enter');
      await page.waitForSelector('[role=alert] h1:focus');
      expect(await page.locator('[role=alert]').innerText()).toContain('A check refused, so nothing is shown.');
      expect(await page.locator('.finding').count()).toBe(0);
      await tabTo(page, 'For whoever runs the agents');
      await keys.press('Enter');
      expect(await page.locator('pre').innerText()).toMatch(/^42801 context_required, refused by /);
      await look(page, `${name}-4-refusal`);

      await page.goto(world.ready.portal);
      await page.waitForSelector('#reason:focus');
      await page.focus('#text');
      await keys.type('Repeat the panel');
      await keys.press('Enter');
      await page.waitForSelector('text=Drafted, not signed');
      await look(page, `${name}-5-drafted`);
      // A tab that stays behind on the patient before.
      const behind = await context.newPage();
      await behind.goto(world.ready.portal);
      await page.bringToFront();

      await tabTo(page, 'Switch patient');
      await keys.press('Enter');
      await page.waitForSelector('[data-step=patient] input[type=radio]:focus');
      await keys.press('ArrowDown');
      await keys.press('Enter');
      await page.waitForSelector('[data-step=consent]');
      await tabTo(page, 'Allow');
      await keys.press('Enter');

      await page.waitForSelector('h1:focus');
      expect(await page.title()).toBe('Switch patient · Portal');
      expect(await page.locator('h1').innerText()).toMatch(BEA);
      expect(await page.locator('.both .from').innerText()).toMatch(ADA);
      expect(await page.locator('.both .to').innerText()).toMatch(BEA);
      expect(await page.locator('form.switch').innerText()).toContain('will save 1 unsaved item');
      expect(
        await page
          .locator('form.switch input:not([type=hidden])')
          .evaluateAll((all) => all.map((one) => (one as HTMLInputElement).value)),
      ).toEqual(['', '']);
      await look(page, `${name}-6-dialog`);
      const type = async ({ birthDate, recordNumberLast4 }: Record<string, string>): Promise<void> => {
        await keys.type(birthDate ?? '');
        await keys.press('Tab');
        await keys.type(recordNumberLast4 ?? '');
        await keys.press('Enter');
      };
      await keys.press('Tab');
      await type(typedFor(ADA));
      await page.waitForSelector('[role=alert]');
      await page.waitForSelector('#f-birthDate:focus');
      expect(await page.locator('[role=alert]').innerText()).toContain('The patient was not switched');
      expect(await page.locator('.banner').innerText()).toMatch(ADA);
      await look(page, `${name}-7-asked-again`);
      await type(typedFor(BEA));
      await page.waitForSelector('[role=status]:focus');
      expect(await page.locator('.banner').innerText()).toMatch(BEA);
      expect(await page.content()).not.toMatch(ADA);
      await look(page, `${name}-8-switched`);

      await behind.click('text=Ask triage');
      await behind.waitForSelector('[role=alert]');
      expect(await behind.locator('[role=alert]').innerText()).toContain('Nothing was asked.');
      expect(await behind.content()).not.toMatch(ADA);
      await look(behind, `${name}-9-left-behind`);
      await behind.close();

      await page.focus('#text');
      await keys.type('Chest film');
      await keys.press('Enter');
      await page.waitForSelector('text=Drafted, not signed');
      await tabTo(page, 'Sign this order');
      await keys.press('Enter');
      await page.waitForSelector('text=The order is signed.');
      await look(page, `${name}-10-signed`);

      await tabTo(page, 'Close this chart');
      await keys.press('Enter');
      await page.waitForSelector('text=No chart is open');
      expect(await page.content()).not.toMatch(BEA);
      // The answer is kept nowhere, and Back does not ask again.
      await expect(page.goBack()).rejects.toThrow('ERR_CACHE_MISS');
      await context.close();
    });

    it('obeys its own policy: nothing on its pages is blocked', async () => {
      const context = await browser.newContext();
      const page = await context.newPage();
      const complaints: string[] = [];
      page.on('console', (message) => complaints.push(message.text()));
      await page.goto(world.ready.portal);
      expect(await page.evaluate(() => getComputedStyle(document.querySelector('a.main') ?? document.body).color)).toBe(
        'rgb(255, 255, 255)',
      );
      expect(complaints.filter((text) => !text.includes('favicon'))).toEqual([]);
      await context.close();
    });
  },
);
