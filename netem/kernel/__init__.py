"""The back end `kernel`: links as Linux netem queueing disciplines, set through raw netlink."""
