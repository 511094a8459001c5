export {
  Account,
  AuthorizationServerConfig,
  type AuthorizationServerConfigInput,
  ClientRegistration,
  Manager,
  Person,
  parseConfig,
  Resource,
  TOKEN_EXCHANGE,
} from './config.js';
export { createDirectory, type Directory } from './directory.js';
export {
  ACCESS_TOKEN_TYPE,
  decideExchange,
  type Exchanged,
  type ExchangeQuestion,
  type ExchangeRequest,
  readExchange,
} from './exchange.js';
export { type BoundSession, bindSession, type SessionQuestion } from './exchange-session.js';
export { loadKeys, publicKeys, type SigningKeys } from './keys.js';
export { type HostProcess, type OpenAudit, runAuthorizationServer } from './run.js';
export { createScriptedBrowser, type PatientChoice, type ScriptedBrowser, type SignIn, signIn } from './scripted-person.js';
export { type AuthorizationServer, type AuthorizationServerOptions, createAuthorizationServer } from './server.js';
export { smartConfiguration } from './smart-configuration.js';
