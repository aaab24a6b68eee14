"""Binding addresses: which process may have one, and who may connect to it."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from authz.settings import TcpAddress
from authz.transport import ListenError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager, ExitStack

    from authz.settings import Address

SOCKET_UMASK = 0o117  # leaves 0660: the owner and a shared group, as a pod's fsGroup
OWNER_UMASK = 0o177  # leaves 0600
LOCK_MODE = 0o660
BACKLOG_CONNECTIONS = 1024


def listen(
    address: Address, until: ExitStack, *, reuse_port: bool = False, umask: int = SOCKET_UMASK
) -> socket.socket:
    """Listen on ``address``; everything is released at the end of ``until``.

    ``umask`` says who may connect to a Unix socket.  Raises ``ListenError``.
    """
    if isinstance(address, TcpAddress):
        listener = bind(address, reuse_port=reuse_port)
    else:
        until.enter_context(unix_socket(Path(address.path)))
        listener = socket.socket(socket.AF_UNIX)
    until.callback(listener.close)
    try:
        if not isinstance(address, TcpAddress):
            with _masked(umask):
                listener.bind(address.path)
        listener.listen(BACKLOG_CONNECTIONS)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {error.strerror}") from error
    return listener


def bind(address: TcpAddress, *, reuse_port: bool = False) -> socket.socket:
    """Bind a TCP address, shared with this user's other processes if ``reuse_port``.

    Raises ``ListenError`` with the reason.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family)
    # Connections of a server that has just ended do not keep its port.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuse_port))
    try:
        bound.bind((address.host, address.port))
    except OSError as error:
        bound.close()
        raise ListenError(f"cannot listen on {address}: {error.strerror}") from error
    return bound


def bound_address(listener: socket.socket, asked: Address) -> Address:
    """Return ``asked`` with the port that it really has."""
    if isinstance(asked, TcpAddress):
        return TcpAddress(asked.host, listener.getsockname()[1])
    return asked


def group_only() -> AbstractContextManager[None]:
    """Make sockets and files for their owner and group, whatever the umask."""
    return _masked(SOCKET_UMASK)


@contextmanager
def _masked(umask: int) -> Iterator[None]:
    """Set the umask while a socket is made: before a later chmod anyone could connect."""
    before = os.umask(umask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def unix_socket(path: Path) -> Iterator[None]:
    """Own the socket at ``path``, by a lock on a file beside it, as long as the context lasts.

    A socket that a dead server left behind is unlinked.  gRPC unlinks any socket at the
    path and binds anew, so a second server would take over silently; the lock prevents
    it, and ends with its process.  Owner and group may take the lock, whoever may
    connect: the next server may run as another user of the group.
    """
    refusal = f"cannot listen on unix:{path}"
    try:
        with group_only():
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, LOCK_MODE)
    except OSError as error:
        raise ListenError(f"{refusal}: {path}.lock: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ListenError(f"{refusal}: another authz listens there") from None
        if _is_taken(path):
            raise ListenError(f"{refusal}: something else stands or listens there")
        path.unlink(missing_ok=True)
        yield
        path.unlink(missing_ok=True)
    finally:
        # The lock file stays: removing it would let two servers lock two files of one name.
        os.close(lock)


def _is_taken(path: Path) -> bool:
    """Tell whether ``path`` is anything but free or a socket that nobody listens on."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        return True
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(0)  # a full backlog is an answer too: somebody is there
        try:
            visitor.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True
