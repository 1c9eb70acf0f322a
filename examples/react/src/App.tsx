import { CopilotChatConfigurationProvider, useAgent } from "@copilotkit/react-core/v2";
import { useEffect, useState } from "react";
import { Chat } from "./Chat";
import { ShoppingList } from "./ShoppingList";
import { ThreadList } from "./ThreadList";

/** `known`: the thread exists and can be connected to. A new thread shows the welcome screen instead. */
export type Thread = { id: string; known: boolean };

const fresh = (): Thread => ({ id: crypto.randomUUID(), known: false });
const fromUrl = (): Thread => (location.hash ? { id: decodeURIComponent(location.hash.slice(1)), known: true } : fresh());

export function App() {
  const [thread, setThread] = useState(fromUrl);
  const { agent } = useAgent();

  useEffect(() => {
    // A reload opens the same thread again.
    history.replaceState(null, "", `#${encodeURIComponent(thread.id)}`);
  }, [thread.id]);

  const startNew = () => {
    // The stock chat clears the messages of the previous thread, but not its state.
    agent.setState({});
    setThread(fresh());
  };

  return (
    <CopilotChatConfigurationProvider agentId="default" threadId={thread.id} hasExplicitThreadId={thread.known}>
      <main className="page">
        <ThreadList thread={thread} onOpen={(id) => setThread({ id, known: true })} onNew={startNew} />
        <Chat />
        <ShoppingList />
      </main>
    </CopilotChatConfigurationProvider>
  );
}
