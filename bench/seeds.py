"""Seeds hashed from names: adding an arm, a task or a seed changes nobody else's."""

from __future__ import annotations

import hashlib


def seed(*names: str | int) -> int:
    """Hash names to a seed, the same on every machine.

    Args:
        names: what the random numbers depend on, for example suite, task, use, role, index.

    Returns:
        An integer from 0 to 2**63 - 1.

    Example:
        >>> seed("accuracy", "digits", "init", "test", 0) == seed("accuracy", "digits", "init", "test", 1)
        False
    """
    text = "\0".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
