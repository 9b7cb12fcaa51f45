"""What bench/survive.py measures: the link, a case's course, and one module for each system."""
