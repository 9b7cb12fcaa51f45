"""What a node computes: tensors, aggregation, and the tasks that bring a model and its data."""
