import { useAgent, useThreads } from "@copilotkit/react-core/v2";
import { useEffect, useState } from "react";
import type { Thread } from "./App";

type Props = { thread: Thread; onOpen: (threadId: string) => void; onNew: () => void };

export function ThreadList({ thread, onOpen, onNew }: Props) {
  const [archived, setArchived] = useState(false);
  const { agent } = useAgent();
  const list = useThreads({ agentId: "default", includeArchived: archived });
  const { threads, refetchThreads, renameThread } = list;
  const listed = threads.find(({ id }) => id === thread.id);
  const nameless = listed ? !listed.name : !thread.known;

  useEffect(() => {
    const { unsubscribe } = agent.subscribe({
      onRunFinalized: async ({ messages }) => {
        const first = messages.find(({ role }) => role === "user")?.content;
        if (nameless && typeof first === "string") await renameThread(thread.id, first.slice(0, 60));
        // Only the paid service announces new threads by websocket, so the list is requested after each run.
        refetchThreads();
      },
    });
    return unsubscribe;
  }, [agent, thread.id, nameless, renameThread, refetchThreads]);

  const rename = (id: string, name: string | null) => {
    const newName = prompt("Name of the thread", name ?? "");
    if (newName) void renameThread(id, newName);
  };
  const remove = async (id: string) => {
    await list.deleteThread(id);
    if (id === thread.id) onNew();
  };

  return (
    <nav className="threads" aria-label="Threads">
      <button className="primary" onClick={onNew}>
        New thread
      </button>
      {list.error && <p role="alert">{list.error.message}</p>}
      {!list.isLoading && threads.length === 0 && <p className="quiet">No threads yet</p>}
      <ul>
        {threads.map(({ id, name, archived: isArchived, lastRunAt, updatedAt }) => (
          <li key={id} className={isArchived ? "archived" : ""} aria-current={id === thread.id}>
            <button className="open" onClick={() => onOpen(id)}>
              <span>{name ?? "Untitled"}</span>
              <time>{new Date(lastRunAt ?? updatedAt).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })}</time>
            </button>
            <menu>
              <button onClick={() => rename(id, name)}>Rename</button>
              <button onClick={() => (isArchived ? list.unarchiveThread(id) : list.archiveThread(id))}>
                {isArchived ? "Restore" : "Archive"}
              </button>
              <button onClick={() => remove(id)}>Delete</button>
            </menu>
          </li>
        ))}
      </ul>
      <label>
        <input type="checkbox" checked={archived} onChange={(event) => setArchived(event.target.checked)} />
        Show archived
      </label>
    </nav>
  );
}
