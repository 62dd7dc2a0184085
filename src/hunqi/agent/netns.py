"""TCP connections from inside a container's network, made without starting anything there."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading
from typing import Final

from hunqi.agent.errors import NoConnectionError

CONNECT_S: Final = 5.0
_CLONE_NEWNET: Final = 0x40000000


async def connect_inside(pid: int, port: int, *, hosts: tuple[str, ...] = ("127.0.0.1",)) -> socket.socket:
    """Return a socket connected to ``port`` at the first of ``hosts`` that takes it, in the network of process ``pid``.

    Raises :class:`NoConnectionError`.
    """
    problems: list[str] = []
    loop = asyncio.get_running_loop()
    for host in hosts:
        sock = await asyncio.to_thread(socket_inside, pid)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.sock_connect(sock, (host, port))
        except (OSError, TimeoutError) as error:
            sock.close()
            problems.append(f"{host}: {error or 'no answer in time'}")
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise NoConnectionError(f"port {port} of the container takes no connection ({'; '.join(problems)})")


def socket_inside(pid: int) -> socket.socket:
    """Make a socket that belongs to the network of ``pid``: a thread enters it, and ends without coming back.

    Takes a tenth of a millisecond. Raises :class:`NoConnectionError`.
    """
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def enter() -> None:
        try:
            descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number))
            finally:
                os.close(descriptor)
            made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        except OSError as error:
            failed.append(error)

    # A thread of its own: one of a pool would carry the network into other work.
    thread = threading.Thread(target=enter, name="netns")
    thread.start()
    thread.join()
    if failed:
        raise NoConnectionError(f"the container's network cannot be entered: {failed[0]}") from failed[0]
    return made[0]
