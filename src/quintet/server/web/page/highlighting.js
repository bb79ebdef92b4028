// Colours for code. Languages that are not here are shown plain.
import hljs from "./vendor/highlight.js";
import bash from "./vendor/languages/bash.js";
import cpp from "./vendor/languages/cpp.js";
import csharp from "./vendor/languages/csharp.js";
import css from "./vendor/languages/css.js";
import diff from "./vendor/languages/diff.js";
import go from "./vendor/languages/go.js";
import java from "./vendor/languages/java.js";
import javascript from "./vendor/languages/javascript.js";
import json from "./vendor/languages/json.js";
import markdown from "./vendor/languages/markdown.js";
import php from "./vendor/languages/php.js";
import python from "./vendor/languages/python.js";
import rust from "./vendor/languages/rust.js";
import sql from "./vendor/languages/sql.js";
import typescript from "./vendor/languages/typescript.js";
import xml from "./vendor/languages/xml.js";
import yaml from "./vendor/languages/yaml.js";

const LANGUAGES = {
  bash, cpp, csharp, css, diff, go, java, javascript, json, markdown, php, python, rust, sql, typescript, xml, yaml,
};
const LONGEST = 20_000;

for (const [name, language] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, language);

/** Return code as HTML with its words in classes, or null for a language that is not known, or too much code. */
export function highlight(code, language) {
  if (code.length > LONGEST || !hljs.getLanguage(language)) return null;
  return hljs.highlight(code, { language, ignoreIllegals: true }).value;
}
