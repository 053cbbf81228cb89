import { env } from "node:process";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// The node that the development server asks.
const node = env["MARTLET_URL"] ?? "http://127.0.0.1:8080";

export default defineConfig({
  // Relative, so that the panel works below a path too.
  base: "./",
  plugins: [svelte()],
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false }, sourcemap: false },
  server: { proxy: { "/api": { target: node, changeOrigin: false } } },
});
