"""The satellite daemon: aggregates the region it serves; where designated, stores, carries and mixes."""
