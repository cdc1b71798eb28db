"""Floor 2: merges updates into releases; stands in the hub region."""
