// Prints what the official parser finds in the AsyncAPI document on standard input, as JSON.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

// That there is a version of AsyncAPI after 3.0.0 is no fault.
const KNOWN = "asyncapi-latest-version";
const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
const found = diagnostics
  .filter(({ code }) => code !== KNOWN)
  .map(({ code, message, path }) => `${code} at ${path.join(".")}: ${message}`);
const operations = document?.operations().all().map((operation) => operation.id()) ?? [];
console.log(JSON.stringify({ operations, found }));
