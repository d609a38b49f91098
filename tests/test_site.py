"""The documents as a site: every page has its place, every link its end, and nothing comes from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONFIG = (ROOT / "mkdocs.yml").read_text()


def test_every_document_has_a_place_in_the_site() -> None:
    placed = set(re.findall(r": ([\w-]+\.md)$", CONFIG, flags=re.MULTILINE))
    written = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert placed == written | {"index.md", "changelog.md", "tests.md"}


@pytest.mark.thorough
def test_the_site_is_made_without_a_dead_link_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (made.returncode, made.stdout + made.stderr) == (0, "")
    pages = {path: path.read_text() for path in tmp_path.glob("*.html")}
    assert "number you can trust" in pages[tmp_path / "index.html"]
    loaded = re.compile(r'<(?:script|img|iframe|link rel="stylesheet")[^>]*(?:src|href)="(https?:[^"]*)"')
    assert [found for page in pages.values() for found in loaded.findall(page)] == []
