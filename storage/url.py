"""Reads the URL of a database: which kind, with which driver, and what of it may be shown.

Reads at most a file that holds the URL; writes nothing. Called by storage/database.py, which opens what is
named here, and by whoever prints a URL or a message in which one may stand.

A password with `@`, `/`, `?` or `#` in it must be percent-encoded. One that is not reads as another host,
whose name the driver prints when it cannot be found: the password would stand in a terminal and in logs. It
is refused before anything connects.
"""

import os
import re
import stat
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from space.errors import UsageError
from storage.sqlite_file import path_of

KINDS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
}
HOST_AND_PORT = re.compile(r"^([^:]*):(\d+)$")
POSTGRES_PORT = 5432
THIS_MACHINE = "localhost"
SQLITE_PLACE = "sqlite "  # begins what location() says of a file, whose whole path follows
LOOPBACK = ("127.0.0.1", "::1")
POOLER = "pgbouncer"  # of a URL's query
LONGEST = 4_096  # bytes of a file that holds a URL
FILE_ENDINGS = (".db", ".sqlite", ".sqlite3")
GIVE = "give postgresql://user@host/name or sqlite:///file.db"


def normalise(url: str) -> str:
    """Return the URL with the driver that we use; a bare path ending in .db or .sqlite means a SQLite file.

    Raises UsageError for what is no URL, an unknown kind, a password that is not percent-encoded, and a
    SQLite database without a file.
    """
    return parse(url).render_as_string(hide_password=False)


def parse(url: str) -> URL:
    """Return the same as a record, without blanks and line ends around it.

    Raises UsageError as `normalise` does.
    """
    url = url.strip()
    if "://" not in url and url.endswith(FILE_ENDINGS):
        return URL.create("sqlite", database=url)
    _require_encoded(url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UsageError(f"not a database URL: {_shortened(url)!r}; {GIVE}") from None
    if parsed.drivername not in KINDS:
        raise UsageError(f"unknown kind of database {parsed.drivername!r} in {redacted(url)!r}; {GIVE}")
    has_pooler(parsed)
    parsed = parsed.set(drivername=KINDS[parsed.drivername])
    if is_sqlite(parsed) and parsed.host:
        raise UsageError(f"a slash is missing in {url!r}: sqlite:///FILE, or sqlite:////PATH from the root")
    if is_sqlite(parsed) and (
        parsed.database in (None, "", ":memory:") or parsed.query.get("mode") == "memory"
    ):
        raise UsageError(
            f"{url!r} is in memory, where no worker can see it; name a file: sqlite:///search.db"
        )
    return parsed


def from_file(path: Path) -> str:
    """Return the URL that a file of mode 0600 holds. Raises UsageError, which repeats nothing of it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(LONGEST + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    if mode & 0o077:
        raise UsageError(
            f"{path} holds a password, and others may read it (mode {mode:04o}): chmod 600 {path}"
        )
    try:
        url = content.decode().strip()
    except UnicodeDecodeError:
        url = ""
    if not url or len(content) > LONGEST or len(url.splitlines()) > 1:
        raise UsageError(f"{path} is to hold the URL of a store and nothing else: {GIVE}")
    return url


def has_pooler(url: URL) -> bool:
    """Whether it says, by `pgbouncer=true`, that a pooler stands before the server: each transaction may run
    in another session. Raises UsageError for another word than true or false."""
    word = url.query.get(POOLER, "false")
    if word not in ("true", "false"):
        raise UsageError(f"{POOLER}={word}: give {POOLER}=true where PgBouncer stands before the server")
    return word == "true"


def without_word(url: URL) -> URL:
    """The URL as the driver takes it, which does not know that word."""
    return url.difference_update_query([POOLER])


def is_sqlite(url: URL) -> bool:
    """Whether it names a file of SQLite."""
    return url.get_backend_name() == "sqlite"


def hosts(url: URL) -> list[str]:
    """The hosts that are connected to, without ports, or folders of sockets; none where nothing is named.

    They stand before the path or in the query, where `hostaddr` comes before `host`.
    """
    return [HOST_AND_PORT.sub(r"\1", host) for host in _named_hosts(url)]


def _named_hosts(url: URL) -> list[str]:
    """The same as they are written, some with ports."""
    named = url.query.get("hostaddr") or url.query.get("host") or url.host or ()
    listed = ",".join([named] if isinstance(named, str) else named).split(",")
    return [host for host in listed if host]


def location(url: str) -> str:
    """Return where a store is, the same for each way to spell it.

    Of a server that is the host, the port and the database, whoever asks and with which options; of SQLite
    the whole path of the file.

    Raises UsageError as `normalise` does.
    """
    parsed = parse(url)
    if is_sqlite(parsed):
        return f"{SQLITE_PLACE}{path_of(str(parsed.database)).resolve()}"
    port = parsed.query.get("port") or parsed.port or POSTGRES_PORT
    places = []
    for host in _named_hosts(parsed) or [THIS_MACHINE]:
        name, own_port = found.groups() if (found := HOST_AND_PORT.fullmatch(host)) else (host, port)
        places.append(f"{_one_spelling(name)}:{own_port}")
    return f"postgresql {','.join(places)} {parsed.database or parsed.username or ''}"


def _one_spelling(host: str) -> str:
    if host in LOOPBACK:
        return THIS_MACHINE
    return host if host.startswith("/") else host.lower()  # the folder of a socket, or a name


def _require_encoded(url: str) -> None:
    """Raises UsageError, which shows scheme and user alone, where a password can be read in two ways."""
    scheme, separator, rest = url.partition("://")
    user, colon, tail = rest.partition(":")
    if not (separator and colon) or scheme.startswith("sqlite") or re.search(r"[/?#]", user):
        return  # a colon further on is in the path or in the query
    if "@" not in tail:
        return  # a port
    password, _, after = tail.partition("@")
    if re.search(r"[/?#]", password) or "@" in after:
        shown = "".join(sign if sign.isprintable() else "?" for sign in f"{scheme}://{user}")
        raise UsageError(f"{shown}:***: percent-encode the password (@ is %40, / is %2F, ? is %3F, # is %23)")


def _shortened(url: str) -> str:
    """What is no URL, without what may be a password in it."""
    return f"{url.partition(':')[0]}:***" if "@" in url and "://" not in url else redacted(url)


def redacted(text: str) -> str:
    """Return a URL, or a line with one in it, with the password masked, also when it cannot be parsed."""
    masked = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text, flags=re.DOTALL)
    return re.sub(r"(password=)[^&\s]*", r"\1***", masked)


def without_password(url: str) -> str:
    """Return a URL as it is, but for its password: the driver finds that in ~/.pgpass or PGPASSWORD. Cannot
    fail, as redacted()."""
    bare = re.sub(r"://([^:/@]*):.*@", r"://\1@", url, flags=re.DOTALL).replace("://@", "://")
    return re.sub(r"(?<=[?&])\w*password=[^&]*&?", "", bare).rstrip("?&")


def masked(line: str, url: URL) -> str:
    """Return a library's message without the URL's password, wherever it stands as a word of its own.

    In the middle of a word it is no password: one of a single letter would else be told by the holes.
    """
    password = str(url.password or "")
    if password:
        line = re.sub(rf"(?<!\w){re.escape(password)}(?!\w)", "***", line)
    return redacted(line)
