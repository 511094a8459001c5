import { relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packAll } from './tarballs.js';

// `npm run pack [-- FOLDER]`: writes a tarball of every package to FOLDER (default: packed), to be installed with npm.

const root = fileURLToPath(new URL('../../', import.meta.url));
const into = resolve(process.argv[2] ?? 'packed');
for (const file of await packAll(root, into)) process.stdout.write(`${relative(process.cwd(), file)}\n`);
