"""How a store fails. All are StoreError."""

from __future__ import annotations


class StoreError(Exception):
    """The store cannot do what was asked; for the journal this ends the process."""


class StoreLocked(StoreError):
    """Another process, or another object of this one, has the store open."""


class StorageFull(StoreError):
    """The quota or the disk leaves no room."""


class DigestMismatch(StoreError):
    """The bytes received are not those that the digest names. They have been removed."""


class ObjectTooLarge(StoreError):
    """An object, or what a peer claims of one, exceeds OBJECT_BYTES_MAX."""


class OutOfBounds(StoreError):
    """Bytes outside the object, or scattered into too many pieces."""


class IncomingClosed(StoreError):
    """The partial object was dropped to make room; begin again."""


class PageRejected(StoreError):
    """A page of a node's journal that cannot be what it says."""
