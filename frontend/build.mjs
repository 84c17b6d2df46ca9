// Bundle the study page into optuna_llm/_page/assets, or check that what is there is up to date.
import { build } from "esbuild";
import { readFile, writeFile } from "node:fs/promises";

const ASSETS = new URL("../optuna_llm/_page/assets/", import.meta.url);

async function bundle(entry, options) {
  const result = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    legalComments: "none",
    target: "es2022",
    absWorkingDir: import.meta.dirname,
    ...options,
  });
  return result.outputFiles[0].text;
}

const license = await readFile(new URL("node_modules/diff/LICENSE", import.meta.url), "utf8");
const { version } = JSON.parse(
  await readFile(new URL("node_modules/diff/package.json", import.meta.url), "utf8"),
);
const files = {
  "page.js": await bundle("src/main.js", { format: "iife" }),
  "page.css": await bundle("src/page.css", {}),
  "LICENSES.txt": `page.js contains jsdiff ${version} (https://github.com/kpdecker/jsdiff):\n\n${license}`,
};

let stale = 0;
for (const [name, text] of Object.entries(files)) {
  const target = new URL(name, ASSETS);
  if (!process.argv.includes("--check")) {
    await writeFile(target, text);
  } else if ((await readFile(target, "utf8").catch(() => "")) !== text) {
    console.error(`${name} is not what its sources make: run npm run build in frontend/`);
    stale += 1;
  }
}
process.exitCode = stale ? 1 : 0;
