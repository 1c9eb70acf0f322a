import { useAgent } from "@copilotkit/react-core/v2";

/** The state that agent and page share: the agent's changes arrive while it runs, the page's go with the next message. */
export function ShoppingList() {
  const { agent } = useAgent();
  const items: string[] = agent.state?.items ?? [];
  const remove = (removed: string) => agent.setState({ ...agent.state, items: items.filter((item) => item !== removed) });

  return (
    <aside className="list" aria-label="Shopping list">
      <h2>Shopping list</h2>
      {items.length === 0 && <p className="quiet">Nothing yet</p>}
      <ul>
        {items.map((item) => (
          <li key={item}>
            {item}
            <button onClick={() => remove(item)} aria-label={`Remove ${item}`}>
              ×
            </button>
          </li>
        ))}
      </ul>
    </aside>
  );
}
