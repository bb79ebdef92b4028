"""A client that can be as slow and as rude as a test needs it, and projects with other settings."""

import socket
from types import TracebackType

import h11

from quintet.config import Project


def changed(project: Project, **serving: object) -> Project:
    """Return the project with other settings of its serving section."""
    section = project.config.serving.model_copy(update=serving)
    return Project(project.root, project.config.model_copy(update={"serving": section}))


class RawClient:
    """One connection, byte by byte."""

    def __init__(self, url: str, *, receive_buffer: int | None = None) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.socket = socket.socket()
        self.socket.settimeout(5)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect((host, int(port)))

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, most: int = 65_536) -> bytes:
        return self.socket.recv(most)

    def response(self) -> tuple[int, dict[str, str], bytes]:
        """Read one whole response: status, headers, body."""
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method="GET", target="/", headers=[("Host", "q")]))
        connection.send(h11.EndOfMessage())
        status, headers, body = 0, {}, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(self.read())
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, headers, body
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionError("closed without a response")
