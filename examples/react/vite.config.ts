import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The page and its agents share one origin, as behind a reverse proxy, so they need no CORS.
const agents = process.env.AGENTS ?? "http://127.0.0.1:8000";

export default defineConfig({
  plugins: [react()],
  server: { proxy: { "/copilotkit": agents } },
});
