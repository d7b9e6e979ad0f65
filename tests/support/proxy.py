"""A proxy before Redis that loses replies, or is slow to pass them on: the server has applied the request already."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

__all__ = ["LosingProxy"]


class LosingProxy:
    """Every `every`-th request that holds one of `needles` is forwarded, its reply is not: the connection is cut.

    Requests are recognised by what they contain (the SHA-1 of a script), so nothing of the protocol is parsed.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._lock = threading.Lock()
        self._needles: tuple[bytes, ...] = ()
        self._every = 0
        self._seen = 0
        self.lost = 0
        self.delay = 0.0  # seconds until a reply is passed on
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self, *scripts: str, every: int, first: bool = False) -> None:
        """From now on; `first`: the very next one is lost already."""
        with self._lock:
            self._seen = every - 1 if first else 0
            self._needles = tuple(sha.encode() for sha in scripts)
            self._every = every

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends the accept that waits; closing alone does not
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            with server:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                doomed = threading.Event()
                threading.Thread(target=self._answers, args=(server, client, doomed), daemon=True).start()
                while True:
                    try:
                        data = client.recv(1 << 20)
                    except OSError:
                        return
                    if not data:
                        return
                    if self._falls(data):
                        doomed.set()  # before it is forwarded: not a byte of its reply gets through
                    try:
                        server.sendall(data)
                    except OSError:
                        return

    def _falls(self, data: bytes) -> bool:
        with self._lock:
            if not self._every or not any(needle in data for needle in self._needles):
                return False
            self._seen += 1
            if self._seen % self._every:
                return False
            self.lost += 1
            return True

    def _answers(self, server: socket.socket, client: socket.socket, doomed: threading.Event) -> None:
        while True:
            try:
                data = server.recv(1 << 20)
            except OSError:
                data = b""
            if not data or doomed.is_set():
                for end in (client, server):
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                return
            time.sleep(self.delay)
            try:
                client.sendall(data)
            except OSError:
                return
