"""Floor 3: where state lives."""
