/** What a check of `hmcp doctor` is about. */
export type Area = 'description' | 'environment' | 'tls' | 'trust' | 'clock' | 'mode' | 'store' | 'file';

/** One thing that was looked at. */
export interface Finding {
  /** `ok` was looked at or asked; `note` is sound as it was described, and nobody was asked. */
  readonly level: 'ok' | 'note' | 'warning' | 'failure';
  readonly area: Area;
  /** URL, file or name of a server of the deployment. */
  readonly about: string;
  /** What was found, as a sentence part. */
  readonly found: string;
  /** What to change; present in a warning and a failure. */
  readonly change?: string;
}

/** Nothing to change. */
export function ok(area: Area, about: string, found: string): Finding {
  return { level: 'ok', area, about, found };
}

/** Sound as described; whether it is so was not asked. */
export function note(area: Area, about: string, found: string): Finding {
  return { level: 'note', area, about, found };
}

/** Works, and may not be what was meant. */
export function warning(area: Area, about: string, found: string, change: string): Finding {
  return { level: 'warning', area, about, found, change };
}

/** Requests would be refused, or a promise would not hold. */
export function failure(area: Area, about: string, found: string, change: string): Finding {
  return { level: 'failure', area, about, found, change };
}
