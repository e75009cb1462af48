"""The numbers that stand for what a transaction has to itself."""

from hashlib import blake2b

from app.store.group import Entity


def lock_of(entity: Entity) -> int:
    """Return the number of the lock that stands for a blueprint's entity."""
    digest = blake2b("\0".join(entity).encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
