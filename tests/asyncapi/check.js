// Prints what the official parser finds in each AsyncAPI document of the list on standard input; both are JSON.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

// That there is a version of AsyncAPI after 3.0.0 is no fault.
const KNOWN = "asyncapi-latest-version";
const verdicts = [];
for (const text of JSON.parse(readFileSync(0, "utf8"))) {
  const { document, diagnostics } = await new Parser().parse(text);
  const found = diagnostics
    .filter(({ code }) => code !== KNOWN)
    .map(({ code, message, path }) => `${code} at ${path.join(".")}: ${message}`);
  const operations = document?.operations().all().map((operation) => operation.id()) ?? [];
  verdicts.push({ operations, found });
}
console.log(JSON.stringify(verdicts));
