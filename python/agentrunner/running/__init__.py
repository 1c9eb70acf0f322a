"""Live runs: claim threads, drive agents, commit events, follow other processes, recover."""
