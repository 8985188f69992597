import { defineConfig } from "vitest/config";

// `npm run dev` shows a running system's page: MDM_WEB_BROKER=wss://host:8885
const broker = process.env.MDM_WEB_BROKER ?? "wss://localhost:8885";

export default defineConfig({
  build: { target: "es2022", modulePreload: false },
  server: { proxy: { "/mqtt": { target: broker, ws: true, secure: false } } },
  test: { include: ["tests/**/*.test.ts"] },
});
