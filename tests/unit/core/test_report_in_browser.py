"""The report in a real browser, where the machine has one: Chromium, without a display."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lamella.report import page
from tests.report_samples import made, worker

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="this machine has no Chromium")
# A window can't be as narrow as a phone; a frame can.
FRAME = """<!DOCTYPE html><body style="margin:0"><iframe src="report.html"
 style="border:0;width:{width}px;height:2400px"></iframe><script>onload = () => {{
  const root = document.querySelector("iframe").contentDocument.documentElement;
  const style = getComputedStyle(root.querySelector("body"));
  document.body.dataset.seen = JSON.stringify({{
    wide: root.scrollWidth, ground: style.backgroundColor, ink: style.color,
    height: root.querySelector(".row svg").getBoundingClientRect().height,
    text: root.innerText,
  }});
}}</script></body>"""


def opened(folder: Path, width: int, *, dark: bool) -> tuple[dict[str, Any], str, list[str]]:
    """What the page looks like, what the browser complained of, and what it asked for by its network."""
    frame, net_log = folder / "frame.html", folder / "net.json"
    frame.write_text(FRAME.format(width=width))
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            f"--log-net-log={net_log}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            f"--window-size={max(width, 500)},2400",
            "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found, done.stdout[:500]
    seen: dict[str, Any] = json.loads(found[1].replace("&quot;", '"').replace("&amp;", "&"))
    complaints = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    asked = re.findall(r'"url":"(https?://[^"]*)"', net_log.read_text())
    return seen, complaints, asked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    report, drawn = made([worker(k, layers=60) for k in range(8)])
    (tmp_path / "report.html").write_text(page(report, drawn), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_is_readable_and_asks_for_nothing(folder: Path, width: int, *, dark: bool) -> None:
    seen, complaints, asked = opened(folder, width, dark=dark)

    assert seen["wide"] <= width
    assert complaints == ""
    # Chromium itself tells its maker that it is there.
    assert [
        url for url in asked if not re.match(r"https?://[^/]*\.(google|googleapis|gstatic|gvt1)\.com/", url)
    ] == []
    ground, ink = (sum(map(int, re.findall(r"\d+", seen[name])[:3])) for name in ("ground", "ink"))
    assert (ground < ink) is dark
    assert abs(ground - ink) > 400
    assert seen["height"] > 8
    assert "Layer by layer" in seen["text"]
    assert "worker 7" in seen["text"]
