import { defineConfig } from "vitest/config";

import { oneFile } from "./one-file.ts";

export default defineConfig({
  plugins: [oneFile()],
  build: { target: "es2022", assetsInlineLimit: Number.MAX_SAFE_INTEGER, modulePreload: false, cssCodeSplit: false },
  test: { include: ["tests/**/*.test.ts"] },
});
