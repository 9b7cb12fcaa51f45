"""The satellite daemon: aggregates the region it serves and, where designated, stores, carries and mixes; it needs no torch."""
