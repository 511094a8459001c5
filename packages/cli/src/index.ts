export { type Command, type CommandIo, EXIT, stateFolder, UsageError } from './command.js';
export { hmcp } from './hmcp.js';
