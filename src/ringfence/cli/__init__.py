"""Floor 4: the commands a person types."""
