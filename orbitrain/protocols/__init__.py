"""The protocols: each a module with all of its roles, pure, over the contract of `orbitrain.machine`."""
