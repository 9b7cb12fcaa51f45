"""The ground daemon: the operator's seat, where journals and models are gathered and evaluated."""
