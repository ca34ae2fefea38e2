"""The event log: facts, exactly once in effect (ARCHITECTURE 5)."""
