#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTML report in a browser: violations of axe-core, requests, width on a phone, screenshots to look at.

npm install --prefix /tmp/axe axe-core && python tests/bench/bench_page.py [DIRECTORY [REPORT.JSON ...]]

Without reports, it makes pages of its own: without findings, with two incidents and a remediation, of a fleet, and with
hostile names.

It is no test of the CI: to install Debian's chromium takes half a minute. The tests of units check markup and contrast.
"""

from __future__ import annotations

import html
import http.server
import json
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible_collections.tracktion.ops.plugins.plugin_utils import _outputs  # noqa: E402
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import cleaned  # noqa: E402
from tests.bench.goals import Goals  # noqa: E402
from tests.lab.engine import install_programs  # noqa: E402
from tests.unit.plugins.plugin_utils import sample_report  # noqa: E402

REPORTS = {
    "one-host": sample_report.of_one_host,
    "hostile": sample_report.hostile,
    "nothing": lambda: sample_report.report({"music-1": []}),
    "fleet": lambda: sample_report.of_fleet(20, 8),
}
WIDTHS = (360, 900, 1600)
AXE_CORE = Path("/tmp/axe/node_modules/axe-core/axe.min.js")
DARK = "--blink-settings=preferredColorScheme=0"
# What mail gateways and CI servers send with a page: no scripts, no styles, no requests.
POLICY = "sandbox; default-src 'none'"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE = """<script>%s</script><script>axe.run(document, {resultTypes: ["violations"], runOnly: TAGS}).then(found => {
  document.body.textContent = ""; const result = document.createElement("pre"); result.id = "result";
  result.textContent = JSON.stringify(found.violations.map(each => [each.id, each.nodes.length, each.nodes[0].html]));
  document.body.append(result); })</script>"""
WIDE = """<iframe width="%d" height="3000" src="%s"></iframe><script>onload = () => {
  const wide = frames[0].document.documentElement.scrollWidth;
  document.body.innerHTML = "<pre id=result>" + wide + "</pre>"; }</script>"""


def main():
    if not AXE_CORE.exists():
        sys.exit("axe-core is missing. Run: npm install --prefix /tmp/axe axe-core")
    install_programs({"chromium": ("chromium",)})
    script = AXE_CORE.read_text(encoding="utf-8")
    print("axe-core %s" % re.search(r"axe v([\d.]+)", script).group(1))
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="tracktion-page-"))
    folder.mkdir(exist_ok=True)
    goals = Goals()
    reports = {path.parent.name: lambda path=path: json.loads(path.read_text()) for path in map(Path, sys.argv[2:])}
    for name, make in (reports or REPORTS).items():
        page = _outputs.render(cleaned(make()), "html")
        path = folder / ("%s.html" % name)
        path.write_text(page, encoding="utf-8")
        for scheme, switches in (("light", []), ("dark", [DARK])):
            found = json.loads(
                result(folder, page.replace("</body>", AXE.replace("TAGS", str(TAGS)) % script + "</body>"), *switches)
            )
            goals.check("%s, %s: violations of axe-core" % (name, scheme), len(found), at_most=0)
            for violation in found:
                print("   ", *violation)
        for width in WIDTHS:
            wide = int(result(folder, WIDE % (width, path.name), "--allow-file-access-from-files"))
            goals.check("%s, %d px: width of the content" % (name, width), wide, at_most=width)
            screenshot(path, folder / ("%s-%d.png" % (name, width)), width)
        screenshot(path, folder / ("%s-900-dark.png" % name), 900, DARK)
        chromium("--print-to-pdf=%s" % (folder / ("%s.pdf" % name)), "--no-pdf-header-footer", path.as_uri())
        requests, size = under_a_strict_policy(page, folder / ("%s-strict.png" % name))
        goals.check("%s: requests besides the page itself" % name, requests, at_most=0)
        goals.check("%s: size, kB" % name, size / 1e3)
    print("Look at the screenshots in %s" % folder)
    goals.exit()


def result(folder, text, *switches):
    """Return what a page has put into its element ``result``."""
    path = folder / "measured.html"
    path.write_text(text, encoding="utf-8")
    shown = chromium("--virtual-time-budget=60000", "--window-size=1700,1200", "--dump-dom", *switches, path.as_uri())
    path.unlink()
    return html.unescape(re.search(r'<pre id="?result"?>(.*?)</pre>', shown, re.DOTALL).group(1))


def screenshot(path, picture, width, *switches):
    """Take a picture of a page in a frame: a window of chromium is at least 500 pixels wide."""
    frame = path.with_suffix(".frame.html")
    frame.write_text(
        '<body style="margin:0"><iframe style="border:0" width="%d" height="4000" src="%s">' % (width, path.name)
    )
    chromium(
        "--window-size=%d,4000" % max(width, 500),
        "--hide-scrollbars",
        "--screenshot=%s" % picture,
        *switches,
        frame.as_uri(),
    )
    frame.unlink()


def under_a_strict_policy(page, picture):
    """Serve a page with POLICY and take a picture; return the number of other requests, and its size."""
    content, asked = page.encode("utf-8", "backslashreplace"), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            for header in (("Content-Type", "text/html"), ("Content-Security-Policy", POLICY)):
                self.send_header(*header)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chromium("--window-size=900,4000", "--screenshot=%s" % picture, "http://127.0.0.1:%d/" % server.server_port)
        server.shutdown()
    # Browsers ask for this one by themselves.
    return len([path for path in asked if path not in ("/", "/favicon.ico")]), len(content)


def chromium(*arguments):
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


if __name__ == "__main__":
    main()
