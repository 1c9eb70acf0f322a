"""Streams of a thread's events: from the store, from a live run, from a snapshot."""
