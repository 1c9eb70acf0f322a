"""The tour `agentrunner demo` takes: a real framework's agent, real processes, a real kill."""
