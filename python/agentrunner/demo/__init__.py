"""The tour of `agentrunner demo`: a real agent, real processes, a real kill."""
