// operations.ts of the guides, as its reader has it beside this.
export { operations } from '@hmcp/examples/dist/guide/operations.js';
