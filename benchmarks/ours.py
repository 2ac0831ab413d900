"""Our own workers as a contestant."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A TCP port that nothing listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def environments(size: int, *, address: str = "127.0.0.1", threads: int = 1) -> list[dict[str, str]]:
    """What torchrun would put into each worker's environment."""
    port = str(free_port())
    return [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": address,
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": str(threads),
        }
        for rank in range(size)
    ]
