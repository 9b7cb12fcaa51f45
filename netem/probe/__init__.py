"""The truth probe: what packets really see on the emulated links, measured apart from the back end."""
