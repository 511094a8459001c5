// deployment.ts of the guides, as its reader has it beside this.
export { env, listen } from '@hmcp/examples/dist/guide/deployment.js';
