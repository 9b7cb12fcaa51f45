"""Programs of the systems under test: run in their environments, import nothing of the project."""
