import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// `hatch_build.py` builds with `--outDir`; in development `/api` goes to a running `salus up`.
export default defineConfig({
  plugins: [svelte()],
  build: {
    outDir: "../src/salus/server/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
  },
  server: { proxy: { "/api": process.env.SALUS_URL ?? "http://127.0.0.1:7070" } },
});
