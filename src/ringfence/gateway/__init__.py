"""Floor 2: the one process of a region with a line across the border."""
