"""The store on PostgreSQL."""

try:
    import psycopg as psycopg
    import psycopg_pool as psycopg_pool
except ImportError as error:
    raise ImportError("the PostgreSQL store needs psycopg: pip install 'agentrunner[postgres]'") from error

from agentrunner.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
