// The folder of the guides has one desk.ts; this folder is installed apart.
export { deskOf, openBrowser, peer, smart } from '@hmcp/examples/dist/guide/desk.js';
