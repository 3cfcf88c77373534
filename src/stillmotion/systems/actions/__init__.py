"""Name an action, and the still performs it."""
