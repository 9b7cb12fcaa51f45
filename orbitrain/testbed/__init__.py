"""One scenario as real processes on this host: their files, their supervision, their results."""
