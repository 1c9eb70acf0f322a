import { CopilotChat, useConfigureSuggestions, useDefaultRenderTool, useInterrupt } from "@copilotkit/react-core/v2";

export function Chat() {
  // Tool calls are shown as the stock cards; `useRenderTool` gives one of them a look of its own.
  useDefaultRenderTool();

  useConfigureSuggestions({
    suggestions: [
      { title: "Breakfast", message: "milk, bread and eggs" },
      { title: "Something sweet", message: "dark chocolate" },
    ],
    available: "before-first-message",
  });

  // Where a run ends with a question, as those of the examples that ask do; the answer starts the run that goes on.
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
