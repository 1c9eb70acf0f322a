// Clients of @copilotkit/core 1.75.0 with @ag-ui/client 0.0.59: the proxied agent, the core, the bare HttpAgent.
import { HttpAgent } from "@ag-ui/client";
import { CopilotKitCore, ProxiedCopilotRuntimeAgent, ɵcreateThreadStore } from "@copilotkit/core";

import { clientsOf } from "../clients.mjs";
import { httpAgent } from "../http_clients.mjs";

// Without a window the core takes itself to be rendered on a server, and asks for nothing.
globalThis.window = globalThis;

const stores = new Map();

function proxied(transport, { url, ...config }) {
  const agent = new ProxiedCopilotRuntimeAgent({ runtimeUrl: url, transport, ...config });
  return {
    agent,
    errors: [],
    run: (parameters) => agent.runAgent(parameters),
    connect: () => agent.connectAgent(),
    stop: () => agent.abortRun(),
  };
}

async function connected(url, runtimeTransport, errors) {
  const core = new CopilotKitCore({ runtimeUrl: url, runtimeTransport, deferInitialConnection: true });
  core.subscribe({ onError: ({ error, code }) => void errors.push([code, String(error.message ?? error)]) });
  await new Promise((resolve, reject) => {
    core.subscribe({
      onRuntimeConnectionStatusChanged: ({ status }) => {
        if (status === "connected") resolve();
        if (status === "error") reject(new Error("the core is not connected"));
      },
    });
    core.connect();
  });
  return core;
}

async function ofCore(transport, { url, agentId, threadId, tools = [] }) {
  const errors = [];
  const core = await connected(url, transport, errors);
  for (const tool of tools) core.addTool({ ...tool, handler: async () => tool.answer });
  const agent = core.getAgent(agentId);
  agent.threadId = threadId;
  return {
    agent,
    errors,
    run: (parameters) => core.runAgent({ agent, ...parameters }),
    connect: () => core.connectAgent({ agent }),
    stop: () => core.stopAgent({ agent }),
  };
}

// What `useThreads` makes of it: the store, and the context of its hook.
async function threads({ id, url, transport, agentId = "default", limit = 20, includeArchived = true }) {
  const core = await connected(url, transport, []);
  const store = ɵcreateThreadStore({ fetch: core.ɵruntimeFetch });
  stores.set(id, store);
  store.start();
  core.registerThreadStore(agentId, store);
  store.setContext({ runtimeUrl: core.runtimeUrl, headers: core.headers, agentId, includeArchived, limit });
  await settled(store);
  return { endpoints: core.threadEndpoints, transport: core.runtimeTransport };
}

function settled(store) {
  const done = () => {
    const { isLoading, isFetchingNextPage } = store.getState();
    return !isLoading && !isFetchingNextPage;
  };
  return new Promise((resolve) => {
    if (done()) return resolve();
    const subscription = store.select((state) => state).subscribe(() => {
      if (!done()) return;
      resolve();
      setTimeout(() => subscription.unsubscribe());
    });
  });
}

function shown(store) {
  const { threads, nextCursor, error, fetchMoreError } = store.getState();
  return { threads, more: nextCursor !== null, error: error?.message, fetchMoreError: fetchMoreError?.message };
}

// What the page offers to say next: an agent asked beside the chat.
async function suggestions({ url, transport, threadId }) {
  const core = await connected(url, transport, []);
  const agent = core.getAgent("default");
  agent.threadId = threadId;
  await core.connectAgent({ agent });
  core.addSuggestionsConfig({ instructions: "be brief", minSuggestions: 1, maxSuggestions: 2, available: "always" });
  await new Promise((resolve) => {
    core.subscribe({ onSuggestionsFinishedLoading: resolve });
    core.reloadSuggestions("default");
  });
  return core.getSuggestions("default").suggestions;
}

await clientsOf(
  (kind, options) => {
    const [name, transport] = kind.split("-");
    if (name === "http") return httpAgent(HttpAgent, options);
    return name === "core" ? ofCore(transport, options) : proxied(transport, options);
  },
  {
    threads,
    suggestions,
    shown: ({ id }) => shown(stores.get(id)),
    async list({ id, verb, given = [] }) {
      const store = stores.get(id);
      await store[verb](...given);
      await settled(store);
      return shown(store);
    },
  },
);
