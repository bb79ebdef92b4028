"""The server's process: its port, its signals, its end."""

import asyncio
import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from quintet.config import ServingConfig
from quintet.errors import ConfigError, QuintetError
from quintet.server.uvicorn_protocol import SPARE_FILES, Connection
from quintet.serving.background import BackgroundTasks
from quintet.serving.drain import Drain
from quintet.serving.live_project import LiveProject

logger = logging.getLogger("quintet.server")

KEEP_ALIVE_SECONDS = 620
"""How long an idle connection is kept: longer than proxies keep theirs, or one would be used just as it is closed. Of
those that tell, Google's load balancers keep theirs longest: 600 s."""
CUT_SECONDS = 2
"""How long requests have to notice that they are cut short."""
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK")
SIGNALS: tuple[signal.Signals, ...] = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""Those that the system has: Windows has no SIGHUP, and a closed window or a Ctrl+Break there is a SIGBREAK."""
RELOAD: signal.Signals | None = getattr(signal, "SIGHUP", None)
# On Windows, SO_REUSEADDR lets two servers have the same port, and either of them answers.
_ALONE = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)


def listen(host: str, port: int) -> socket.socket:
    """Take the port before the model is loaded, so that a taken one is known at once; raise ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small pieces at once only where the protocol is named; else each may wait 40 ms for the one before.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, _ALONE, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, error) from None
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    option = f"--port {port + 1}" if error.errno == errno.EADDRINUSE else "--host 127.0.0.1"
    return ConfigError(f"cannot listen on {host}:{port}: {error.strerror}; try {option}")


def run(app: FastAPI, listener: socket.socket, settings: ServingConfig) -> None:
    """Serve until a signal says to end and what is under way has ended; return then.

    Raises ConfigError when another process has begun to listen on the port since it was taken, which Linux allows.
    """
    _allow_files(settings.max_connections + SPARE_FILES)
    host, port = listener.getsockname()[:2]
    try:
        make_server(app, settings).run(sockets=[listener])
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise _cannot_listen(host, port, error) from None


def make_server(app: FastAPI, settings: ServingConfig) -> "Server":
    """Return the server of an application that `create_app` made."""
    services = app.state.services

    class OwnConnection(Connection):
        max_connections = settings.max_connections
        seconds = settings.client_seconds
        count_refusal = staticmethod(services.metrics.count_refusal)

    config = uvicorn.Config(
        app,
        http=OwnConnection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=CUT_SECONDS,
    )
    return Server(config, services.drain, settings.drain_seconds, services.current)


class Server(uvicorn.Server):
    """Ends at a signal when what is under way has ended, and at a second one at once; SIGHUP has it read its config."""

    def __init__(self, config: uvicorn.Config, drain: Drain, seconds: float, current: LiveProject) -> None:
        super().__init__(config)
        self._drain = drain
        self._seconds = seconds
        self._current = current
        self._draining: asyncio.Task[None] | None = None
        self._reloading = BackgroundTasks()
        self._has_terminal = os.isatty(0)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals that end the process; uvicorn would raise them again, and the process end by them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        with _handled_by(self.take_signal):
            yield

    def take_signal(self, number: int) -> None:
        """Begin to end, and end at once when that has begun already; or read quintet.yaml again."""
        if number == RELOAD and not (self._has_terminal and not os.isatty(0)):
            self._reloading.begin(self._reload())
        elif self._draining is not None:
            # Not by the signal itself, which the first process of a container would not die of.
            os._exit(128 + number)
        else:
            self._draining = asyncio.create_task(self._drain_and_stop())

    async def _reload(self) -> None:
        try:
            await self._current.reload()
        except QuintetError as error:
            logger.error("quintet.yaml is not taken up, and what was read before stays: %s", error)

    async def _drain_and_stop(self) -> None:
        self._drain.begin()
        logger.info("ending: %d requests are under way; a second signal ends at once", self._drain.under_way)
        if not await self._drain.finished(self._seconds):
            logger.warning(
                "%d requests were not answered within %g s (serving.drain_seconds), and are cut short",
                self._drain.under_way, self._seconds,
            )  # fmt: skip
            self._drain.cut()
            await self._drain.finished(CUT_SECONDS)
        self.should_exit = True


@contextmanager
def _handled_by(take: Callable[[int], None]) -> Iterator[None]:
    """Have the running loop take the signals: by its own handlers, or where it has none, as on Windows, by Python's."""
    loop = asyncio.get_running_loop()
    undo: Callable[[int], object]
    try:
        for number in SIGNALS:
            loop.add_signal_handler(number, take, number)
        undo = loop.remove_signal_handler
    except NotImplementedError:
        before = {
            number: signal.signal(number, lambda given, _: loop.call_soon_threadsafe(take, given)) for number in SIGNALS
        }
        undo = lambda number: signal.signal(number, before[signal.Signals(number)])  # noqa: E731
    try:
        yield
    finally:
        for number in SIGNALS:
            undo(number)


def _allow_files(wanted: int) -> None:
    """Let the process have as many connections open as it may; what the system grants by default is 1,024 often."""
    try:
        import resource
    except ImportError:
        return  # Windows knows no such limit
    granted, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    if possible > granted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, most))
    if possible < wanted:
        logger.warning(
            "the system lets this process open %d files, so fewer clients than serving.max_connections can connect; "
            "raise its limit (ulimit -n), or lower that", possible,
        )  # fmt: skip
