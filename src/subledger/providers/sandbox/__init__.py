"""The sandbox provider: an ASGI application of its own, with its own journal in its own schema."""
