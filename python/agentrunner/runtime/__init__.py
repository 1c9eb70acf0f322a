"""The agent runtime: a loop of model turns and tool calls that is an agent."""
