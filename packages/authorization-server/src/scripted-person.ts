/** A browser as far as these pages need one: it keeps cookies by path, follows redirects, and shows where it ended. */
export interface ScriptedBrowser {
  open(url: string, stopAt: string): Promise<Visit>;
  submit(url: string, fields: Iterable<readonly [string, string]>, stopAt: string): Promise<Visit>;
}

/** Where a visit ended: on a page, or at the client's redirect URI, which is not opened. */
export type Visit = { readonly url: string; readonly page: string } | { readonly callback: string };

/** Which person to pick: as the list shows them, or by place in it, from 0. */
export type PatientChoice = number | { readonly name: string; readonly birthDate: string };

/** What {@link signIn} needs. */
export interface SignIn {
  /** Authorization URL, as a client made it. */
  readonly url: string;
  readonly username: string;
  readonly password: string;
  /** Needed when the launch asks for a patient. */
  readonly patient?: PatientChoice | undefined;
  /** Scopes to leave ticked. @default every one */
  readonly scopes?: readonly string[] | undefined;
  /** Keeps cookies from one launch to the next. @default a new browser */
  readonly browser?: ScriptedBrowser | undefined;
  /** @default globalThis.fetch */
  readonly fetch?: typeof fetch | undefined;
}

const MOST_STEPS = 12;

/** Makes a {@link ScriptedBrowser}. */
export function createScriptedBrowser(fetcher: typeof fetch = globalThis.fetch): ScriptedBrowser {
  const cookies = new Map<
    string,
    { readonly name: string; readonly value: string; readonly path: string; readonly host: string }
  >();

  const keep = (url: URL, lines: readonly string[]) => {
    for (const line of lines) {
      const [pair = '', ...attributes] = line.split(';').map((part) => part.trim());
      const at = pair.indexOf('=');
      const name = pair.slice(0, at);
      const find = (key: string) => attributes.find((part) => part.toLowerCase().startsWith(`${key}=`))?.slice(key.length + 1);
      const path = find('path') ?? '/';
      const key = `${url.host} ${path} ${name}`;
      const expires = find('expires');
      if (find('max-age') === '0' || (expires !== undefined && Date.parse(expires) <= Date.now())) cookies.delete(key);
      else cookies.set(key, { name, value: pair.slice(at + 1), path, host: url.host });
    }
  };
  const cookieHeader = (url: URL) =>
    [...cookies.values()]
      .filter(
        (cookie) =>
          cookie.host === url.host && `${url.pathname}/`.startsWith(cookie.path.endsWith('/') ? cookie.path : `${cookie.path}/`),
      )
      .map((cookie) => `${cookie.name}=${cookie.value}`)
      .join('; ');

  const visit = async (start: string, init: RequestInit, stopAt: string): Promise<Visit> => {
    let url = start;
    let request = init;
    for (let step = 0; step < MOST_STEPS; step++) {
      const here = new URL(url);
      const headers = new Headers(request.headers);
      const cookie = cookieHeader(here);
      if (cookie !== '') headers.set('cookie', cookie);
      const response = await fetcher(url, { ...request, headers, redirect: 'manual' });
      keep(here, response.headers.getSetCookie());
      const location = response.headers.get('location');
      if (location === null || response.status < 300 || response.status > 399) return { url, page: await response.text() };
      await response.body?.cancel();
      url = new URL(location, url).href;
      if (url === stopAt || url.startsWith(`${stopAt}?`) || url.startsWith(`${stopAt}#`)) return { callback: url };
      request = {};
    }
    throw new Error('the pages redirect without end');
  };
  return {
    open: (url, stopAt) => visit(url, {}, stopAt),
    submit: (url, fields, stopAt) =>
      visit(
        url,
        { method: 'POST', body: new URLSearchParams([...fields].map(([name, value]): [string, string] => [name, value])) },
        stopAt,
      ),
  };
}

/**
 * A person at the pages of this server, for tests, stories and tools: signs in, picks a patient, allows.
 * Returns the callback URL, which may hold an error the server sent there (`access_denied` for an account without patients).
 * @throws {Error} when the pages cannot be got through: wrong password, the person or the place is not in the list, an error page
 */
export async function signIn(person: SignIn): Promise<string> {
  const browser = person.browser ?? createScriptedBrowser(person.fetch);
  const stopAt = new URL(person.url).searchParams.get('redirect_uri') ?? '';
  let visit = await browser.open(person.url, stopAt);
  for (let step = 0; step < MOST_STEPS; step++) {
    if ('callback' in visit) return visit.callback;
    visit = await browser.submit(visit.url, answer(person, visit.page), stopAt);
  }
  throw new Error('the pages have no end');
}

function answer(person: SignIn, page: string): [string, string][] {
  const step = /<main data-step="([a-z-]+)">/.exec(page)?.[1];
  switch (step) {
    case 'sign-in':
      if (page.includes('role="alert"')) throw new Error('the server did not accept the user name and password');
      return [
        ['username', person.username],
        ['password', person.password],
        ['do', 'sign-in'],
      ];
    case 'patient':
      return pick(person.patient, page);
    case 'consent': {
      const offered = [...page.matchAll(/<input type="checkbox" name="scope" value="([^"]*)"/g)].map((match) =>
        plainText(match[1] ?? ''),
      );
      const kept = offered.filter((scope) => person.scopes?.includes(scope) ?? true);
      return [...kept.map((scope): [string, string] => ['scope', scope]), ['do', 'allow']];
    }
    default:
      throw new Error(`the server shows ${step === 'error' ? 'an error page' : 'a page this person does not know'}`);
  }
}

/** Picks as a person does, by what the list shows; searches when the list is longer than what is shown. */
function pick(choice: PatientChoice | undefined, page: string): [string, string][] {
  if (choice === undefined) throw new Error('the launch asks for a patient and none was named');
  const rows = [...page.matchAll(/<li>(.*?)<\/li>/gs)].map(([row]) => ({
    id: plainText(/name="patient" value="([^"]*)"/.exec(row)?.[1] ?? ''),
    name: plainText(/<span class="name">(.*?)<\/span>/s.exec(row)?.[1] ?? ''),
    birthDate: /<time datetime="([^"]*)"/.exec(row)?.[1] ?? '',
  }));
  const row =
    typeof choice === 'number'
      ? rows[choice]
      : rows.find((one) => one.name === choice.name && one.birthDate === choice.birthDate);
  if (row !== undefined)
    return [
      ['patient', row.id],
      ['do', 'pick'],
    ];
  const searched = /<input id="search"[^>]* value="([^"]*)"/.exec(page)?.[1];
  if (typeof choice === 'number')
    throw new Error(`there is no place ${choice + 1} in the list of patients, which shows ${rows.length}`);
  if (searched !== '') throw new Error('the person is not in the list of patients');
  return [
    ['search', `${choice.name} ${choice.birthDate}`],
    ['do', 'search'],
  ];
}

function plainText(text: string): string {
  return text
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&amp;', '&');
}
