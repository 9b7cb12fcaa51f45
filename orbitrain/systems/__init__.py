"""What differs between the systems that a scenario may name; see `system`."""
