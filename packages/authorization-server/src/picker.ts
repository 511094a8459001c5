import { parseScopes, type Scope } from '@hmcp/core';
import type { Person } from './config.js';
import { type Html, html, type Page } from './page.js';

/** Most people shown at once; more are found by searching. */
export const MOST_ROWS = 25;

/** The person signs in. `failed` after a wrong name or password; which of the two stays unsaid. */
export function signInPage(facts: { readonly action: string; readonly client: string; readonly failed: boolean }): Page {
  return {
    title: facts.failed ? 'Sign in: not recognised' : 'Sign in',
    step: 'sign-in',
    content: html`<h1>Sign in</h1>
<p>to continue to ${facts.client}</p>
${facts.failed ? html`<p class="alert" role="alert">This name and password do not belong together. Nothing was opened.</p>` : undefined}
<form method="post" action="${facts.action}">
<label for="username">User name</label>
<input id="username" name="username" type="text" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<div class="actions">
<button class="main" name="do" value="sign-in">Sign in</button>
<button name="do" value="deny" formnovalidate>Cancel</button>
</div>
</form>`,
  };
}

/** The person picks whose record is opened. Nobody is chosen beforehand: the choice is an act. */
export function patientPage(facts: {
  readonly action: string;
  readonly client: string;
  readonly signedInAs: string;
  readonly people: readonly Person[];
  readonly search: string;
}): Page {
  const { people, search } = facts;
  const found = people.filter((person) => matches(person, search));
  const shown = found.slice(0, MOST_ROWS);
  const searchable = people.length > MOST_ROWS;
  const seeking = searchable && (search === '' || shown.length === 0);
  return {
    title: 'Choose a patient',
    step: 'patient',
    signedInAs: facts.signedInAs,
    content: html`<p class="step">Step 1 of 2</p>
<h1>Choose a patient</h1>
<p>${facts.client} will open this one record, and no other.</p>
${
  searchable
    ? html`<form class="search" role="search" method="post" action="${facts.action}">
<div><label for="search">Name or date of birth</label>
<input id="search" name="search" type="search" value="${search}" autocomplete="off" spellcheck="false"${seeking ? html` autofocus` : undefined}></div>
<button name="do" value="search">Search</button>
</form>`
    : undefined
}
<form method="post" action="${facts.action}">
<fieldset>
<legend>${searchable ? 'People found' : 'Your patients'}</legend>
${shown.length === 0 ? html`<p class="note" role="status">Nobody of this name or date of birth is among your patients.</p>` : html`<ul class="rows">${shown.map((person, index) => patientRow(person, index === 0 && !seeking))}</ul>`}
${found.length > shown.length ? html`<p class="note" role="status">${shown.length} of ${found.length} people are shown. Search to see the others.</p>` : undefined}
</fieldset>
<div class="actions">
${shown.length === 0 ? undefined : html`<button class="main" name="do" value="pick">Continue</button>`}
<button name="do" value="deny" formnovalidate>Cancel</button>
</div>
</form>`,
  };
}

function patientRow(person: Person, focus: boolean): Html {
  return html`<li><label>
<input type="radio" name="patient" value="${person.id}" required${focus ? html` autofocus` : undefined}>
<span class="name">${person.name}</span>
<span class="facts">${facts(person)}</span>
${person.identifierLast4 === undefined ? undefined : html`<span class="tail">identifier ending ${person.identifierLast4}</span>`}
</label></li>
`;
}

function matches(person: Person, search: string): boolean {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((word) => person.name.toLowerCase().includes(word) || person.birthDate.startsWith(word));
}

function facts({ birthDate, gender = 'unknown' }: Person): Html {
  return html`born <time datetime="${birthDate}">${birthDate}</time>${gender === 'unknown' ? undefined : `, ${gender}`}`;
}

/**
 * The person sees whose record it is and what may be done with it, takes permissions away if need be, and allows or denies.
 * The heading has the focus, not "Allow": an Enter too many on the page before must not open a record.
 */
export function consentPage(facts: {
  readonly action: string;
  readonly client: string;
  readonly signedInAs: string;
  readonly patient: Person | undefined;
  readonly scope: string;
}): Page {
  const { patient, client } = facts;
  const scopes = parseScopes(facts.scope);
  const optional = scopes.filter((scope) => isOptional(scope));
  return {
    title: patient === undefined ? `Allow ${client}?` : 'Confirm the patient',
    step: 'consent',
    signedInAs: facts.signedInAs,
    content: html`${patient === undefined ? undefined : html`<p class="step">Step 2 of 2</p>`}
<h1 tabindex="-1" autofocus>${patient === undefined ? `Allow ${client}?` : 'Is this the right patient?'}</h1>
<p>${client} asks for access in your name.</p>
${patient === undefined ? undefined : patientCard(patient)}
<form method="post" action="${facts.action}">
${
  optional.length === 0
    ? undefined
    : html`<fieldset>
<legend>${client} may</legend>
<ul class="rows">${optional.map(permissionRow)}</ul>
</fieldset>`
}
<div class="actions">
<button class="main" name="do" value="allow">Allow</button>
${patient === undefined ? undefined : html`<button name="do" value="back">Choose another patient</button>`}
<button name="do" value="deny">Deny</button>
</div>
</form>`,
  };
}

function patientCard(patient: Person): Html {
  return html`<section class="card" aria-label="Patient">
<p class="name">${patient.name}</p>
<p>${facts(patient)}${patient.identifierLast4 === undefined ? undefined : `, identifier ending ${patient.identifierLast4}`}</p>
</section>`;
}

function permissionRow(scope: Scope): Html {
  return html`<li><label>
<input type="checkbox" name="scope" value="${scope.raw}" checked>
<span class="permission">${describe(scope)}<code>${scope.raw}</code></span>
</label></li>
`;
}

/** What a person can take away: everything but the launch context and who signed in, which the launch itself is made of. */
export function isOptional(scope: Scope): boolean {
  return scope.kind !== 'launch' && (scope.kind !== 'identity' || scope.raw === 'offline_access');
}

const VERBS = { c: 'add', r: 'read', u: 'change', d: 'delete', s: 'search' } as const;

function describe(scope: Scope): string {
  if (scope.raw === 'offline_access') return 'Stay connected while you are away';
  if (scope.kind === 'access') return 'Use agents that need no patient';
  if (scope.kind === 'control') return 'Take part in switching the patient of a session';
  if (scope.kind === 'hmcp') {
    const verbs = scope.ops.has('read') ? 'Ask agents to read' : 'Ask agents to change';
    return `${verbs} ${scope.level === 'patient' ? "this patient's record" : 'records you may see'}`;
  }
  if (scope.kind !== 'resource') return 'Something this page cannot explain';
  const verbs = (['r', 's', 'c', 'u', 'd'] as const).filter((op) => scope.ops.has(op)).map((op) => VERBS[op]);
  const what = scope.type === '*' ? 'everything' : scope.type;
  const limit =
    scope.constraints.size === 0 ? '' : ` (only ${[...scope.constraints].map(([name, value]) => `${name} ${value}`).join(', ')})`;
  const whose = scope.level === 'patient' ? 'of this patient' : 'of anybody you may see';
  return `${sentence(verbs)} ${what}${limit} ${whose}`;
}

function sentence(words: readonly string[]): string {
  const text = words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Something ended the flow where there is nobody to return to. `code` is an OAuth error code. */
export function errorPage(code: string): Page {
  return {
    title: 'This cannot continue',
    step: 'error',
    content: html`<h1>This cannot continue</h1>
<p>Nothing was opened. Close this page and begin again in the application.</p>
<p class="note">Reason: <code>${code}</code></p>`,
  };
}
