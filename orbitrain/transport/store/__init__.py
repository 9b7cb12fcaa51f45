"""What a node keeps on disk: objects by content, the journal of its steps, the operator's archive."""

from orbitrain.transport.store.archive import Archive
from orbitrain.transport.store.blobs import OBJECT_BYTES_MAX, BlobStore
from orbitrain.transport.store.errors import (
    DigestMismatch,
    IncomingClosed,
    ObjectTooLarge,
    OutOfBounds,
    PageRejected,
    StorageFull,
    StoreError,
    StoreLocked,
)
from orbitrain.transport.store.incoming import Incoming
from orbitrain.transport.store.journal import Journal, Sync

__all__ = [
    "OBJECT_BYTES_MAX",
    "Archive",
    "BlobStore",
    "DigestMismatch",
    "Incoming",
    "IncomingClosed",
    "Journal",
    "ObjectTooLarge",
    "OutOfBounds",
    "PageRejected",
    "StorageFull",
    "StoreError",
    "StoreLocked",
    "Sync",
]
