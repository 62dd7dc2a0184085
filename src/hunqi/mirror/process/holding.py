"""What a mirror holds while it runs: its data directory, its ports, and the sockets in which clients wait."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import ClassVar

from hunqi.errors import UserError
from hunqi.mirror.settings import Address
from hunqi.mirror.store.errors import StoreDirectoryError


class AlreadyServingError(UserError):
    """Another instance serves the same data directory."""

    code: ClassVar[str] = "mirror.already_serving"


class ListenError(UserError):
    """The address cannot be listened on."""

    code: ClassVar[str] = "mirror.listen"


def make_private(data_dir: Path) -> None:
    """Make the data directory, readable by its owner only; raise :class:`StoreDirectoryError`."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreDirectoryError(f"{data_dir} cannot be made: {error.strerror}; choose another with --data") from error


@contextlib.contextmanager
def hold(data_dir: Path):
    """Hold the data directory; the children inherit the hold, so it lasts as long as any of them."""
    fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(fd, 32, 0).decode(errors="replace").strip()
            raise AlreadyServingError(
                f"another instance (process {owner or 'unknown'}) serves {data_dir}: stop it or choose another --data"
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def reserve(wanted: Address):
    """Hold a port without listening, so that the workers can share it and nobody else listens there unseen."""
    family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe, socket.socket(family, socket.SOCK_STREAM) as sock:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((wanted.host, wanted.port))
            probe.close()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((wanted.host, wanted.port))
        except OSError as error:
            remedy = "choose another with --listen" if error.errno == errno.EADDRINUSE else "see --listen"
            raise ListenError(f"cannot listen on {wanted}: {error.strerror}; {remedy}") from error
        yield Address(wanted.host, sock.getsockname()[1])


def shared_listener(address: Address) -> socket.socket:
    """Return a listening socket that shares its port with those of the other workers."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((address.host, address.port))
    sock.listen(1024)
    sock.setblocking(False)
    return sock
