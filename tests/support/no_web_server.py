"""An address where something answers that does not speak HTTP, as a database does."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

ANSWER = b"E\0\0\0\x8fSFATAL\0C0A000\0Munsupported frontend protocol\0\0"


@contextmanager
def no_web_server() -> Iterator[str]:
    """Listens while it lasts; yields the address as http://HOST:PORT."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with suppress(OSError):  # it was shut down
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(10_000)
                        connection.sendall(ANSWER)
                        # What lies unread when a socket closes resets it, and the answer is lost.
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(10_000):
                            pass

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
