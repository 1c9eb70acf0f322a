"""The store in this process's memory."""

from agentrunner.stores.memory.store import DEFAULT_MAX_BYTES, MemoryStore

__all__ = ["DEFAULT_MAX_BYTES", "MemoryStore"]
