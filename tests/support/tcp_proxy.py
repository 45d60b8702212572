"""A network that a test can take away: a TCP proxy that cuts, refuses, pauses, or loses what it carries and says nothing."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import Enum

_CHUNK_BYTES = 1 << 16

Address = tuple[str, int] | str
"""A host and a port, or the path of a Unix socket."""


class Cut(Enum):
    BEFORE = "before the server has got it"
    AFTER = "after the server has done it, before the client has its answer"


class _Connection:
    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.far = far
        self.lost = False
        """What is sent is taken in, and goes nowhere."""
        self.said = b""
        """By the client, since its last COMMIT."""
        self.cut_at_answer = False

    def close(self) -> None:
        for each in (self.near, self.far):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class TcpProxy:
    """Carries whatever comes to `address` to `target`, and back."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._guard = threading.Lock()
        self._connections: list[_Connection] = []
        self._lost: list[_Connection] = []
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._doomed: dict[bytes, tuple[Cut, threading.Event]] = {}
        self.port = 0
        self._listener = self._listen()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._goes_on.set()
        self.refuse()
        for connection in self._lost:
            connection.close()

    def refuse(self) -> None:
        """Connections break, and new ones are refused, until `serve`."""
        # What waits in accept would be given one more connection after a close alone.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._guard:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()

    def serve(self) -> None:
        """On the same port again."""
        self._listener = self._listen()

    def pause(self) -> None:
        """Nothing is carried, until `go_on`: then all of it."""
        self._goes_on.clear()

    def go_on(self) -> None:
        self._goes_on.set()

    def lose_connections(self) -> int:
        """Those that are open look so for ever, and carry nothing any more; new ones are as ever. Returns how many."""
        with self._guard:
            lost, self._connections = self._connections, []
            self._lost += lost
            for connection in lost:
                connection.lost = True
        return len(lost)

    def cut_at_commit(self, of: bytes, when: Cut) -> threading.Event:
        """Breaks the connection at the COMMIT of the first transaction in which the client says this. Returns what is set
        then.
        """
        done = threading.Event()
        with self._guard:
            self._doomed[of] = (when, done)
        return done

    def _listen(self) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._begin(lambda: self._accept(listener))
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # it is closed
            while True:
                near, _ = listener.accept()
                self._begin(lambda near=near: self._connect(near))  # type: ignore[misc] # the default is the socket

    def _connect(self, near: socket.socket) -> None:
        self._goes_on.wait()
        far = socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET)
        try:
            far.connect(self._target)
        except OSError:
            near.close()
            return
        connection = _Connection(near, far)
        with self._guard:
            self._connections.append(connection)
        self._begin(lambda: self._carry(connection, far, near, self._may_answer))
        self._carry(connection, near, far, self._may_be_asked)

    def _carry(
        self,
        connection: _Connection,
        source: socket.socket,
        sink: socket.socket,
        may: Callable[[_Connection, bytes], bool],
    ) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                self._goes_on.wait()
                if connection.lost:
                    continue
                if not may(connection, data):
                    break
                sink.sendall(data)
        with self._guard:
            if connection.lost:
                return
            if connection in self._connections:
                self._connections.remove(connection)
        connection.close()

    def _may_be_asked(self, connection: _Connection, data: bytes) -> bool:
        connection.said += data
        if b"COMMIT" not in data:
            return True
        said, connection.said = connection.said, b""
        with self._guard:
            of = next((each for each in self._doomed if each in said), None)
            if of is None:
                return True
            when, done = self._doomed.pop(of)
        connection.cut_at_answer = when is Cut.AFTER
        done.set()
        return connection.cut_at_answer

    def _may_answer(self, connection: _Connection, _data: bytes) -> bool:
        return not connection.cut_at_answer

    def _begin(self, work: Callable[[], None]) -> None:
        threading.Thread(target=work, name="tcp-proxy", daemon=True).start()
