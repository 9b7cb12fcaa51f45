"""Moving and keeping bytes: objects (ranges), store (blobs, SQLite), rpc (gRPC), bus (ZeroMQ)."""
