import { createHash } from 'node:crypto';
import type { DialogField, SwitchDialog } from '@hmcp/agent';
import { explain, type HmcpError } from '@hmcp/core';
import type { Assessment } from './contracts.js';
import type { Visit } from './visit.js';
import type { VisitSwitch } from './visit-switch.js';

/** What one page of the portal shows. */
export interface PortalView {
  /** Whose chart is open; absent: nobody's. */
  readonly visit?: Pick<Visit, 'banner' | 'page' | 'switching' | 'undecided'> | undefined;
  /** A sentence about what did not happen, or needs attention. */
  readonly message?: string | undefined;
  /** A sentence about what was done. */
  readonly done?: string | undefined;
  /** What the person asked. */
  readonly reason?: string | undefined;
  readonly assessment?: Assessment | undefined;
  /** An order that was drafted just now, in the person's words. */
  readonly drafted?: { readonly handle: string; readonly text: string } | undefined;
  /** Why there is no answer; `failed` when that is no refusal. */
  readonly refusal?: HmcpError | 'failed' | undefined;
}

/** The portal's one page: whose chart, question, answer. No script, no outside asset, nobody's name in its title. */
export function portalPage(view: PortalView): string {
  const { visit, message, done, reason = '', assessment, refusal, drafted } = view;
  const news = [
    message === undefined ? '' : `<p role="alert" class="alert">${text(message)}</p>`,
    done === undefined ? '' : `<p role="status" class="done" tabindex="-1" autofocus>${text(done)}</p>`,
  ].join('');
  const answer = assessment
    ? findings(assessment, reason)
    : refusal
      ? refused(refusal)
      : drafted
        ? draftMade(drafted, visit?.page ?? '')
        : '';
  const dialog = visit?.switching?.dialog;
  const [title, main] = visit?.undecided
    ? ['Switch not decided', undecided(visit)]
    : visit?.switching && dialog
      ? ['Switch patient', `${news}${confirmation(visit, visit.switching, dialog)}`]
      : visit
        ? [
            assessment ? 'Answer' : refusal ? 'No answer' : 'Chart open',
            `${news}${answer}${question(visit, reason, { heads: answer === '', focus: answer === '' && news === '' })}${order(visit)}`,
          ]
        : ['No chart open', `${news}${nobody()}`];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} · Portal</title>
<style>${STYLE}</style>
</head>
<body>
<header><span><strong>HMCP</strong> portal for development</span></header>
${visit && !visit.undecided ? banner(visit, dialog === undefined) : ''}<main>
${main}
</main>
<footer>Synthetic people only. Nothing here is medical advice.</footer>
</body>
</html>
`;
}

function nobody(): string {
  return `<h1>No chart is open</h1><p>Sign in, and pick the one patient you want to ask about.</p>
<p><a class="main" href="/launch">Sign in</a></p>`;
}

/** Whose chart is open. In the dialog of a switch there is nothing else to do than to answer it. */
function banner({ banner: { name, birthDate }, page }: Pick<Visit, 'banner' | 'page'>, actions: boolean): string {
  const doing = `<div class="doing"><a class="button" href="/switch">Switch patient</a>
<form method="post" action="/close"><input type="hidden" name="page" value="${text(page)}"><button>Close this chart</button></form></div>`;
  return `<section class="banner" aria-label="Patient in context"><div><p class="who">${text(name)}</p>
<p class="facts">born <time datetime="${text(birthDate)}">${text(birthDate)}</time></p></div>
${actions ? doing : ''}</section>
`;
}

/** While nobody can say whose chart is open, nobody's is shown. */
function undecided({ page }: Pick<Visit, 'page'>): string {
  const hidden = `<input type="hidden" name="page" value="${text(page)}">`;
  return `<h1 tabindex="-1" autofocus>The switch is not decided yet</h1>
<p>Nobody can say at this moment which of the two patients is open, so nothing of either is shown.</p>
<div class="doing"><form method="post" action="/look">${hidden}<button class="main">Look again</button></form>
<form method="post" action="/close">${hidden}<button>Close, and open neither</button></form></div>`;
}

/** @param place whether it is what the page is about, and where the person goes on */
function question(
  { page }: Pick<Visit, 'page'>,
  reason: string,
  place: { readonly heads: boolean; readonly focus: boolean },
): string {
  const level = place.heads ? 1 : 2;
  return `<form class="ask" method="post" action="/ask"><input type="hidden" name="page" value="${text(page)}">
<h${level}>Ask about this patient</h${level}>
<label for="reason">What do you want to know?</label>
<input id="reason" name="reason" value="${text(reason || 'What stands out?')}" maxlength="500" required autocomplete="off"${place.focus ? ' autofocus' : ''}>
<button class="main">Ask triage</button></form>`;
}

function order({ page }: Pick<Visit, 'page'>): string {
  return `<form class="ask" method="post" action="/draft"><input type="hidden" name="page" value="${text(page)}">
<h2>Draft an order</h2><label for="text">What is to be ordered for this patient?</label>
<input id="text" name="text" maxlength="500" required autocomplete="off"><button>Draft, without signing</button></form>`;
}

function draftMade({ handle, text: words }: NonNullable<PortalView['drafted']>, page: string): string {
  return `<section class="finding"><h1 tabindex="-1" autofocus>Drafted, not signed</h1><p><strong>${text(words)}</strong></p><p>It is an order only once it is signed.</p>
<form method="post" action="/sign"><input type="hidden" name="page" value="${text(page)}"><input type="hidden" name="draft" value="${text(handle)}">
<button class="main">Sign this order</button></form></section>`;
}

/** The dialog of a switch. The words are the manager's; both patients are named, and nothing is filled in. */
function confirmation(
  { banner: from, page }: Pick<Visit, 'banner' | 'page'>,
  { id, banner: to }: Pick<VisitSwitch, 'id' | 'banner'>,
  dialog: SwitchDialog,
): string {
  const again = dialog.round > 1;
  const wrong = `<p role="alert" class="alert" id="wrong">The patient was not switched: what you typed did not match, or came too late. Read both from the record of ${text(to.name)}, and type them again.</p>`;
  const fields = dialog.fields.map((field, i) => typedField(field, again && i === 0));
  return `<form class="switch" method="post" action="/confirm"><h1 tabindex="-1"${again ? '' : ' autofocus'}>Switch to ${text(to.name)}?</h1>
<dl class="both"><div class="from"><dt>You are leaving</dt><dd>${text(from.name)}</dd></div><div class="to"><dt>You are opening</dt><dd>${text(to.name)}</dd></div></dl>
<p>${text(dialog.message)}</p>${again ? wrong : ''}
<input type="hidden" name="page" value="${text(page)}"><input type="hidden" name="switch" value="${text(id)}"><input type="hidden" name="round" value="${dialog.round}">
${fields.join('\n')}
<div class="doing"><button class="main" name="do" value="confirm">Switch to ${text(to.name)}</button>
<button name="do" value="decline" formnovalidate>Stay on ${text(from.name)}</button></div></form>`;
}

/** @param first where the person is to go on after a wrong answer */
function typedField({ name, title, kind, required, choices, minLength, maxLength }: DialogField, first: boolean): string {
  const id = `f-${text(name)}`;
  const hint = kind === 'date' ? `hint-${text(name)}` : undefined;
  const described = [...(first ? ['wrong'] : []), ...(hint === undefined ? [] : [hint])].join(' ');
  const common = [
    `id="${id}" name="${text(name)}"`,
    required ? 'required' : '',
    first ? 'autofocus' : '',
    described === '' ? '' : `aria-describedby="${described}"`,
  ]
    .filter(Boolean)
    .join(' ');
  const label = `<label for="${id}">${text(title)}</label>`;
  switch (kind) {
    case 'yes-no':
      return `<p><input class="tick" type="checkbox" value="true" ${common}> ${label}</p>`;
    case 'choice':
      return `${label}<select ${common}><option value=""></option>${(choices ?? []).map((choice) => `<option>${text(choice)}</option>`).join('')}</select>`;
    case 'date':
      return `${label} <span class="note" id="${hint}">as year-month-day, YYYY-MM-DD</span><input ${common} inputmode="numeric" pattern="\\d{4}-\\d{2}-\\d{2}" title="YYYY-MM-DD" maxlength="10" autocomplete="off">`;
    default:
      return `${label}<input ${common}${minLength === undefined ? '' : ` minlength="${minLength}"`}${maxLength === undefined ? '' : ` maxlength="${maxLength}"`} autocomplete="off" spellcheck="false" autocapitalize="off">`;
  }
}

function findings({ findings: rows, considered }: Assessment, reason: string): string {
  const looked = `<p class="note">${counted(considered.results, 'laboratory result')} and ${counted(considered.medications, 'active medication')} of this patient were looked at. The codes name the sources.</p>`;
  const asked = reason === '' ? '' : `<p class="note">You asked: ${text(reason)}</p>`;
  const head = rows.length === 0 ? 'Nothing is out of range' : `${counted(rows.length, 'result')} out of range`;
  return `<section aria-labelledby="answer"><h1 id="answer" tabindex="-1" autofocus>${head}</h1>${asked}${rows.map(finding).join('')}${looked}</section>`;
}

const WORDS = { high: 'High', low: 'Low', abnormal: 'Abnormal' } as const;

function finding({ result, medications }: Assessment['findings'][number]): string {
  const { analyte, direction, newest, previous } = result;
  const drugs = medications.map(({ medication, source, bearsOn }) => {
    const whys = bearsOn.filter(({ loinc }) => loinc === result.loinc).map(({ why }) => why);
    return `<li>${text(medication)} <span class="why">${text(whys.join('; '))}</span> <code>${text(source)}</code></li>`;
  });
  return `<article class="finding"><h2>${text(analyte)} <span class="flag">${WORDS[direction]}</span></h2>
<dl><div><dt>Newest</dt><dd><strong>${measured(newest)}</strong>${source(newest)}</dd></div>
<div><dt>Before</dt><dd>${previous ? `${measured(previous)}${source(previous)}` : 'none'}</dd></div></dl>
${drugs.length === 0 ? '' : `<p class="label">Active medications that bear on it</p><ul>${drugs.join('')}</ul>`}</article>`;
}

function measured({ value, unit }: { value: number; unit: string }): string {
  return `${Math.round(value * 100) / 100} ${text(unit)}`;
}

function source({ date, source: name }: { date: string; source: string }): string {
  const day = text(date.slice(0, 10));
  return ` <span class="when">on <time datetime="${day}">${day}</time></span> <code>${text(name)}</code>`;
}

function refused(refusal: HmcpError | 'failed'): string {
  const head = '<h1 tabindex="-1" autofocus>There is no answer</h1>';
  if (refusal === 'failed')
    return `<section class="alert" role="alert">${head}<p>An agent failed. Nothing of its answer is shown.</p></section>`;
  const { retry } = refusal.data;
  const next = {
    never: 'Asking again will not help.',
    same: 'You may ask again.',
    after_user: 'Check the patient, then ask again.',
  };
  return `<section class="alert" role="alert">${head}
<p>A check refused, so nothing is shown. ${next[retry]}</p>
<details><summary>For whoever runs the agents</summary><pre>${text(explain(refusal))}</pre></details></section>`;
}

function counted(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`;
}

function text(value: string): string {
  return value.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}

const STYLE = `
:root { color-scheme: light; --ink: #14232e; --soft: #4a5b67; --line: #c5d0d8; --accent: #00585f; --wash: #e6f1f1; --bad: #9c1c1c; }
* { box-sizing: border-box; }
html { scroll-padding-top: 7rem; }
time { white-space: nowrap; }
body { margin: 0; min-height: 100vh; display: flex; flex-direction: column; align-items: center; background: #eef2f4; color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
header, footer { width: 100%; padding: .75rem 1.5rem; font-size: .875rem; color: var(--soft); }
header { background: #fff; border-bottom: 1px solid var(--line); }
header strong { color: var(--ink); }
footer { margin-top: auto; text-align: center; }
.banner { position: sticky; top: 0; width: 100%; padding: .75rem 1.5rem; background: var(--wash); border-bottom: 1px solid var(--line); border-left: .375rem solid var(--accent);
  display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: center; justify-content: space-between; }
.banner p { margin: 0; }
.who { font-size: 1.25rem; font-weight: 600; overflow-wrap: anywhere; }
.facts, .note, .why, .when { color: var(--soft); font-variant-numeric: tabular-nums; }
main { width: min(46rem, calc(100vw - 2rem)); margin: 1.5rem 0; padding: 2rem; background: #fff; border: 1px solid var(--line); border-radius: .75rem; }
h1 { margin: 0 0 .5rem; font-size: 1.5rem; line-height: 1.25; }
h2 { margin: 0 0 .5rem; font-size: 1.125rem; line-height: 1.35; overflow-wrap: anywhere; }
.finding { padding: 1rem 0; border-top: 1px solid var(--line); }
.flag { display: inline-block; padding: 0 .5rem; font-size: .875rem; color: var(--bad); background: #fdf0ef; border: 1px solid #dfa5a2; border-radius: 1rem; vertical-align: middle; }
dl { margin: 0; font-variant-numeric: tabular-nums; }
dl div { display: grid; grid-template-columns: 5rem 1fr; }
dt, .label { color: var(--soft); }
dd { margin: 0; }
.label { margin: .75rem 0 0; }
ul { margin: 0; padding-left: 1.25rem; }
li { overflow-wrap: anywhere; }
.why { display: block; }
code { color: var(--soft); font-size: .8125rem; overflow-wrap: anywhere; }
pre { margin: .5rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .875rem; }
summary { cursor: pointer; }
.ask { margin-top: 1rem; }
section + .ask { padding-top: 1.5rem; border-top: 1px solid var(--line); }
label { font-weight: 600; }
input, select { display: block; width: 100%; margin: .25rem 0 1rem; padding: .625rem .75rem; font: inherit; color: inherit; background: #fff; border: 1px solid #6f808c; border-radius: .5rem; }
input.tick { display: inline-block; width: auto; margin: 0 .5rem 0 0; }
.doing { display: flex; flex-wrap: wrap; gap: .75rem; align-items: center; }
.both { margin: 0 0 1rem; display: grid; grid-template-columns: repeat(auto-fit, minmax(min(12rem, 100%), 1fr)); gap: .75rem; }
.both div { display: block; padding: .75rem 1rem; border: 1px solid var(--line); border-radius: .5rem; }
.both .to { border: 2px solid var(--accent); background: var(--wash); }
.both dd { font-weight: 600; overflow-wrap: anywhere; }
.switch input:not(.tick) { max-width: 20rem; }
.alert { margin: 0 0 1.25rem; padding: .75rem 1rem; background: #fdf0ef; border: 1px solid #dfa5a2; border-radius: .5rem; }
.done { margin: 0 0 1.25rem; padding: .75rem 1rem; background: var(--wash); border: 1px solid var(--accent); border-radius: .5rem; }
p.alert { color: var(--bad); }
button, a.main, a.button { display: inline-block; padding: .625rem 1.25rem; font: inherit; font-weight: 600; color: var(--accent); background: #fff; border: 1px solid var(--accent); border-radius: .5rem; cursor: pointer; text-decoration: none; }
.main { color: #fff; background: var(--accent); }
button.main, a.main { color: #fff; background: var(--accent); }
button:hover { background: var(--wash); }
button.main:hover, a.main:hover { background: #00454a; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
@media (max-width: 30rem) { main { padding: 1.25rem; } .banner { padding: .5rem 1rem; } }
`;

/** What `style-src` allows: this page's own style, and no other. */
export const STYLE_POLICY = `'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`;
