"""The store in this process's memory."""

from agentrunner.stores.memory.store import MIB, MemoryStore

__all__ = ["MIB", "MemoryStore"]
