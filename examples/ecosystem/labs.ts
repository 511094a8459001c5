// labs.ts of the guides, as its reader has it beside this.
export { labs } from '@hmcp/examples/dist/guide/labs.js';
