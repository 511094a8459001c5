import { labs, readPartyConfig, serveChild } from '@hmcp/clinic';

// The laboratory agent as an instrument at the bedside: no port of its own. Triage starts it and speaks to it over its pipes; each
// request brings its own token and envelope, and is checked here as everywhere.
await serveChild(labs, await readPartyConfig(process.argv[2] ?? ''));
