"""The stories' process: all services behind boundaries, on a real PostgreSQL."""

from tests.stories.conftest import front_port, options, process

__all__ = ["front_port", "options", "process"]
