"""A web server that answers in a thread of this process."""

import threading
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self

# How often it looks whether it is to end.
_LOOK_EVERY_S: Final = 0.05


class BackgroundServer:
    """A context manager: it listens from its making on, and answers between entry and exit.

    Args:
        server: made for its address and handler; it is closed at the end.
        name: of the thread.
    """

    def __init__(self, server: ThreadingHTTPServer, name: str) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(_LOOK_EVERY_S,), name=name, daemon=True)

    @property
    def url(self) -> str:
        """The address, without a path."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
