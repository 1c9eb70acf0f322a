import { CopilotChat, useConfigureSuggestions, useDefaultRenderTool, useInterrupt } from "@copilotkit/react-core/v2";

export function Chat() {
  // Show tool calls as the stock cards. `useRenderTool` renders one tool differently.
  useDefaultRenderTool();

  useConfigureSuggestions({
    suggestions: [
      { title: "Breakfast", message: "milk, bread and eggs" },
      { title: "Something sweet", message: "dark chocolate" },
    ],
    available: "before-first-message",
  });

  // A run that ends with a question shows it here. The answer starts the run that continues it.
  useInterrupt({
    render: ({ interrupt, resolve, cancel }) => (
      <div className="approval" role="group" aria-label="Approval">
        <p>{interrupt?.message}</p>
        <button className="primary" onClick={() => resolve({ approved: true })}>
          Approve
        </button>
        <button onClick={() => cancel()}>Decline</button>
      </div>
    ),
  });

  return (
    <section className="chat">
      <CopilotChat labels={{ welcomeMessageText: "What do you need?", chatInputPlaceholder: "Milk, bread and eggs" }} />
    </section>
  );
}
