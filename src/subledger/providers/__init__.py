"""Payment providers: the port, the engine that owns HTTP, and one adapter each."""
