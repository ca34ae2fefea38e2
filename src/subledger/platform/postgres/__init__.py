"""The embedded PostgreSQL: a real one, started by us, on a socket in the user's data folder."""

from subledger.platform.postgres.launcher import Server, start
from subledger.platform.postgres.problems import PostgresProblem

__all__ = ["PostgresProblem", "Server", "start"]
