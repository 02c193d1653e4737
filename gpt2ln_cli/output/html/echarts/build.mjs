// npm ci && npm run build: makes echarts.min.js, with the licences that must go where it goes.
import { readFileSync } from "node:fs";
import { build } from "esbuild";

const read = (path) => readFileSync(path, "utf8").trim();
const { version } = JSON.parse(read("node_modules/echarts/package.json"));
const banner = [
  `Apache ECharts ${version}, a build of entry.js; Apache License 2.0, http://www.apache.org/licenses/LICENSE-2.0`,
  read("node_modules/echarts/NOTICE"),
  `It contains parts of d3.js:\n${read("node_modules/echarts/licenses/LICENSE-d3")}`,
  `It contains zrender:\n${read("node_modules/zrender/LICENSE")}`,
  `It contains tslib:\n${read("node_modules/tslib/LICENSE.txt")}`,
].join("\n\n");

await build({
  entryPoints: ["entry.js"],
  outfile: "echarts.min.js",
  bundle: true,
  minify: true,
  format: "iife",
  globalName: "echarts",
  target: "es2020",
  charset: "ascii",
  define: { "process.env.NODE_ENV": '"production"' },
  legalComments: "none",
  banner: { js: `/*!\n${banner}\n*/` },
});
