import { createHash } from 'node:crypto';

/** Text that is already HTML. */
export class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

type Part = Html | string | number | undefined | readonly Part[];

/** Template tag: every value is escaped unless it is {@link Html} itself; `undefined` is nothing, a list is its members. */
export function html(strings: TemplateStringsArray, ...parts: Part[]): Html {
  return new Html(strings.map((text, i) => text + render(parts[i])).join(''));
}

function render(part: Part): string {
  if (part === undefined) return '';
  if (part instanceof Html) return part.text;
  if (typeof part === 'object') return part.map(render).join('');
  return String(part)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

const STYLE = `
:root { color-scheme: light; --ink: #14232e; --soft: #4a5b67; --line: #c5d0d8; --accent: #00585f; --wash: #e6f1f1; --bad: #9c1c1c; }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; grid-template-rows: auto 1fr auto; justify-items: center; gap: 1.5rem;
  background: #eef2f4; color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
header, footer { width: 100%; padding: .75rem 1.5rem; font-size: .875rem; color: var(--soft); }
header { background: #fff; border-bottom: 1px solid var(--line); display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; justify-content: space-between; }
header strong { color: var(--ink); }
footer { text-align: center; }
main { width: min(40rem, calc(100vw - 2rem)); align-self: start; padding: 2rem; background: #fff; border: 1px solid var(--line); border-radius: .75rem; }
h1 { margin: 0 0 .25rem; font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }
h1 + p { margin: 0 0 1.5rem; color: var(--soft); }
.step { margin: 0 0 .5rem; font-size: .875rem; color: var(--soft); }
label { font-weight: 600; }
input[type=text], input[type=password], input[type=search] { display: block; width: 100%; margin: .25rem 0 1rem; padding: .625rem .75rem; font: inherit;
  color: inherit; background: #fff; border: 1px solid #6f808c; border-radius: .5rem; }
fieldset { margin: 0 0 1.5rem; padding: 0; border: 0; min-width: 0; }
legend { padding: 0; margin-bottom: .5rem; font-weight: 600; }
.rows { margin: 0; padding: 0; list-style: none; border: 1px solid var(--line); border-radius: .5rem; overflow: hidden; }
.rows li + li { border-top: 1px solid var(--line); }
.rows label { display: grid; grid-template-columns: auto 1fr auto; gap: 0 .875rem; align-items: center; padding: .75rem 1rem; font-weight: 400; cursor: pointer; }
.rows label:hover, .rows label:has(:checked) { background: var(--wash); }
.rows label:has(:focus-visible) { outline: 3px solid var(--accent); outline-offset: -3px; }
.rows input { grid-row: 1 / span 2; width: 1.125rem; height: 1.125rem; margin: 0; accent-color: var(--accent); }
.name { font-weight: 600; overflow-wrap: anywhere; }
.facts { grid-column: 2; color: var(--soft); font-size: .9375rem; font-variant-numeric: tabular-nums; }
.tail { grid-column: 3; grid-row: 1 / span 2; color: var(--soft); font-size: .875rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
.permission { grid-column: 2 / span 2; }
.permission code { display: block; color: var(--soft); font-size: .8125rem; overflow-wrap: anywhere; }
.card { margin: 0 0 1.5rem; padding: 1rem 1.25rem; background: var(--wash); border-left: .375rem solid var(--accent); border-radius: .5rem; }
.card p { margin: 0; }
.card .name { font-size: 1.25rem; }
.search { display: grid; grid-template-columns: 1fr auto; gap: 0 .75rem; align-items: end; margin-bottom: 1rem; }
.search input { margin-bottom: 0; }
.note { margin: .75rem 0 0; color: var(--soft); font-size: .9375rem; }
.alert { margin: 0 0 1.25rem; padding: .75rem 1rem; color: var(--bad); background: #fdf0ef; border: 1px solid #dfa5a2; border-radius: .5rem; }
.actions { display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 1.5rem; }
button { padding: .625rem 1.25rem; font: inherit; font-weight: 600; color: var(--accent); background: #fff; border: 1px solid var(--accent); border-radius: .5rem; cursor: pointer; }
button.main { color: #fff; background: var(--accent); }
button:hover { background: var(--wash); }
button.main:hover { background: #00454a; }
button:focus-visible, input:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
h1:focus { outline: 0; }
.rows input:focus-visible { outline: 0; }
@media (max-width: 30rem) { main { padding: 1.25rem; } .rows label { grid-template-columns: auto 1fr; } .tail { grid-column: 2; grid-row: auto; } .permission { grid-column: 2; } }
`;
const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64');

/** A page: its title, the step of the flow it is (read by scripted people), who is signed in, and its content. */
export interface Page {
  readonly title: string;
  readonly step: 'sign-in' | 'patient' | 'consent' | 'error';
  readonly signedInAs?: string | undefined;
  readonly content: Html;
}

/** The whole document. Nothing in it is loaded from anywhere, and there is no script. */
export function renderPage({ title, step, signedInAs, content }: Page): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${new Html(STYLE)}</style>
</head>
<body>
<header><span><strong>HMCP</strong> authorization for development</span>${signedInAs === undefined ? undefined : html`<span>Signed in as <strong>${signedInAs}</strong></span>`}</header>
<main data-step="${step}">
${content}
</main>
<footer>Synthetic people only. Never use this server with real records.</footer>
</body>
</html>
`.text;
}

/**
 * Headers of every page. `form-action` also governs where a submitted form may be redirected to, so it names the origin the
 * person will return to. @param returnTo redirect URI of the client, when one is known
 */
export function pageHeaders(returnTo?: string): Record<string, string> {
  const back = returnTo === undefined || !URL.canParse(returnTo) ? undefined : new URL(returnTo).origin;
  return {
    'content-type': 'text/html; charset=utf-8',
    'content-security-policy': [
      "default-src 'none'",
      `style-src 'sha256-${STYLE_HASH}'`,
      `form-action 'self'${back === undefined || back === 'null' ? '' : ` ${back}`}`,
      "base-uri 'none'",
      "frame-ancestors 'none'",
    ].join('; '),
    'cache-control': 'no-store',
    pragma: 'no-cache',
    'referrer-policy': 'same-origin',
    'x-content-type-options': 'nosniff',
  };
}
