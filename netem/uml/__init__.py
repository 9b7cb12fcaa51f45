"""Real netem on x86 hosts whose kernel has none, or for users who are not root: User-Mode Linux."""
