"""A user's own package, beside the scenario that names it."""
