"""How a reader gets a thread's events: from the store, from a live run, from a snapshot."""
