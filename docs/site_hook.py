"""The hook of mkdocs.yml: README.md is the first page, and links that leave docs/ are plain names.

`make site` calls it by way of mkdocs. It reads README.md, CHANGELOG.md and tests/README.md, and writes
nothing: these pages exist in the site alone.
"""

import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
FROM_OUTSIDE = {"index.md": "README.md", "changelog.md": "CHANGELOG.md", "tests.md": "tests/README.md"}
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie outside docs/."""
    for uri, path in FROM_OUTSIDE.items():
        files.append(File.generated(config, uri, content=(ROOT / path).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Page, files: Files, **_: object) -> str:
    """The text of a page with its links as the site has them.

    A link to a page of the site stays one, wherever it was written; one to a file of the repository, which
    the site does not have, becomes the file's name.
    """
    outside = FROM_OUTSIDE.get(page.file.src_uri)
    folder = PurePosixPath(outside).parent if outside else PurePosixPath("docs")
    places = {path: uri for uri, path in FROM_OUTSIDE.items()}
    places |= {f"docs/{file.src_uri}": file.src_uri for file in files if file.src_uri not in FROM_OUTSIDE}

    def renewed(match: re.Match[str]) -> str:
        text, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        uri = places.get(_plain(folder / path))
        return f"[{text}]({uri}{hash_}{anchor})" if uri else text

    return LINK.sub(renewed, markdown)


def _plain(path: PurePosixPath) -> str:
    """The path without its `..`: `docs/../space/blocks.py` is `space/blocks.py`."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)
