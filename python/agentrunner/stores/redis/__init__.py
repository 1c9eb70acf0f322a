"""The store on a Redis server that several processes and machines share."""

try:
    import redis as redis
except ImportError as error:
    raise ImportError("the Redis store needs redis-py: pip install 'agentrunner[redis]'") from error

from agentrunner.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
