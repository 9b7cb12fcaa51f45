"""Schedules for others to replay: shell scripts that need only tc, and traces for TheaterQ."""
