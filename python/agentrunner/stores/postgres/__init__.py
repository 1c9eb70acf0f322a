"""The store on a PostgreSQL server, shared by any number of processes and machines."""

from agentrunner.stores.backends import POSTGRES

try:
    import psycopg as psycopg
    import psycopg_pool as psycopg_pool
except ImportError as error:
    raise POSTGRES.missing_client() from error

from agentrunner.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
