"""Our own builders: what they read, and what they refuse."""
