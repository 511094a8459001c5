import type { Assessment } from './contracts.js';

/** Who the person is on; shown on every page of a visit. */
export interface Banner {
  readonly name: string;
  readonly birthDate: string;
}

/** What one page of the portal shows. */
export interface PortalView {
  readonly banner?: Banner | undefined;
  readonly message?: string | undefined;
  readonly assessment?: Assessment | undefined;
}

/** The portal's one page: banner, question, answer. No script, no outside asset. */
export function portalPage({ banner, message, assessment }: PortalView): string {
  const body = banner
    ? `<section class="banner" aria-label="Patient in context"><strong>${text(banner.name)}</strong> <span>born ${text(banner.birthDate)}</span>
<form method="post" action="/close"><button class="quiet">Close this chart</button></form></section>
<form method="post" action="/ask"><label for="reason">Why are you asking?</label><input id="reason" name="reason" value="What stands out?" maxlength="500" required>
<button>Ask triage</button></form>`
    : '<p>Sign in and pick a patient to begin.</p><p><a class="button" href="/launch">Sign in</a></p>';
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Portal</title><meta name="viewport" content="width=device-width, initial-scale=1">
<style>${STYLE}</style></head><body><header><h1>Portal</h1></header><main>${message ? `<p role="alert" class="alert">${text(message)}</p>` : ''}${body}${assessment ? findings(assessment) : ''}</main></body></html>`;
}

function findings({ findings: rows, considered }: Assessment): string {
  const looked = `<p>${considered.results} laboratory results and ${considered.medications} active medications were looked at.</p>`;
  if (rows.length === 0) return `<section aria-label="Answer"><h2>Nothing is out of range</h2>${looked}</section>`;
  const list = rows.map(({ result, medications }) => {
    const { newest, previous } = result;
    const before = previous ? `, before ${number(previous.value)} on ${text(previous.date.slice(0, 10))}` : '';
    const drugs = medications
      .map(
        (drug) =>
          `<li>${text(drug.medication)}: ${text(drug.bearsOn.find(({ loinc }) => loinc === result.loinc)?.why ?? '')} <code>${text(drug.source)}</code></li>`,
      )
      .join('');
    return `<li><strong>${text(result.analyte)}</strong> ${result.direction}: ${number(newest.value)} ${text(newest.unit)} on ${text(newest.date.slice(0, 10))}${before} <code>${text(newest.source)}</code>${drugs ? `<ul>${drugs}</ul>` : ''}</li>`;
  });
  return `<section aria-label="Answer"><h2>Out of range now</h2><ul>${list.join('')}</ul>${looked}</section>`;
}

function number(value: number): string {
  return String(Math.round(value * 100) / 100);
}

function text(value: string): string {
  return value.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}

const STYLE = `body{font:1rem/1.5 system-ui,sans-serif;margin:0;color:#1a1a1a;background:#f6f7f9}header{background:#0b4f6c;color:#fff;padding:.5rem 1.5rem}h1{font-size:1.25rem;margin:0}
main{max-width:46rem;margin:1.5rem auto;padding:0 1.5rem}.banner{background:#fff;border-left:.4rem solid #0b4f6c;padding:1rem;display:flex;gap:1rem;align-items:center;margin-bottom:1.5rem}.banner form{margin-left:auto}
label{display:block;font-weight:600}input{font:inherit;width:100%;box-sizing:border-box;padding:.5rem;border:1px solid #555;border-radius:.25rem;margin:.25rem 0 .75rem}
button,.button{font:inherit;background:#0b4f6c;color:#fff;border:0;border-radius:.25rem;padding:.5rem 1rem;text-decoration:none;cursor:pointer}.quiet{background:#fff;color:#0b4f6c;border:1px solid #0b4f6c}
:focus-visible{outline:3px solid #c45a00;outline-offset:2px}.alert{background:#fff4e5;border-left:.4rem solid #c45a00;padding:1rem;white-space:pre-line}code{color:#444;font-size:.85em}`;
