"""A cable in user space, to be cut, joined and torn out: a TCP proxy on 127.0.0.1, in a thread of its own."""

import asyncio
import threading
from contextlib import suppress
from typing import Self


class Proxy:
    """Passes bytes on to a port. While cut they stop in both directions; nobody is told, connections stay."""

    def __init__(self, target: int) -> None:
        self.target, self.port = target, 0
        self.loop = asyncio.new_event_loop()
        self.joined = asyncio.Event()
        self.writers: set[asyncio.StreamWriter] = set()
        self.pumps: set[asyncio.Task[None]] = set()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def start(self) -> Self:
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result(30)
        return self

    async def _listen(self) -> None:
        self.joined.set()
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self.server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.joined.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        self.writers |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = self.loop.create_task(self._pump(source, sink))
            self.pumps.add(pump)
            pump.add_done_callback(self.pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                await self.joined.wait()
                sink.write(data)
                await sink.drain()
        sink.close()
        self.writers.discard(sink)

    def cut(self) -> None:
        self._call(self.joined.clear)

    def join(self) -> None:
        self._call(self.joined.set)

    def tear(self) -> None:
        """Every connection breaks at once, as by a router's restart."""
        self._call(self._tear)

    def _tear(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    def _call(self, act: object) -> None:
        async def run() -> None:
            act()  # type: ignore[operator]

        asyncio.run_coroutine_threadsafe(run(), self.loop).result(30)

    async def _stop(self) -> None:
        self.joined.set()
        self.server.close()
        self._tear()
        for pump in list(self.pumps):
            pump.cancel()
        await asyncio.gather(*self.pumps, return_exceptions=True)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)
        self.loop.close()
