import { CopilotKitProvider } from "@copilotkit/react-core/v2";
import "@copilotkit/react-core/v2/styles.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import "./page.css";

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <CopilotKitProvider runtimeUrl="/copilotkit" enableInspector={false}>
      <App />
    </CopilotKitProvider>
  </StrictMode>,
);
