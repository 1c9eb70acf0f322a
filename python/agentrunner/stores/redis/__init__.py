"""The store on a Redis server, shared by any number of processes and machines."""

from agentrunner.stores.backends import REDIS

try:
    import redis as redis
except ImportError as error:
    raise REDIS.missing_client() from error

from agentrunner.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
