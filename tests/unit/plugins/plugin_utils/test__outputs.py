# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import os
import re
import stat
import time
import xml.dom.minidom
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _html, _html_drawing, _outputs
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import cleaned
from tests.slack import SLACK
from tests.unit.plugins.plugin_utils import sample_report

NAMES = list(_outputs.NAMES)
REPORTS = {
    "one": sample_report.of_one_host(),
    "hostile": sample_report.hostile(),
    "ok": sample_report.report({"music-1": []}),
    "fleet": sample_report.of_fleet(30, 5),
}
VOID = {"meta", "link", "br", "img", "hr", "input"}
SVG_EMPTY = {"path", "rect", "circle", "polyline"}


PARTS = (
    "Space: /var/lib/docker",
    "It began at 2026-11-23 01:50:00 UTC",
    "Do first",
    "What follows from it",
    "The message queue cannot go on while the cause lasts.",
    "Still there, since the run of 2026-11-20 02:13:20 UTC",
    "Possible causes that could not be measured",
    "Before and after the remediation",
    "deletes 3 files (1.2 GiB)",
    "Redis uses 99 % of maxmemory",
    "Findings over the last runs",
    "Over the last 9 runs",
    "4713 · tracktion_user · analysis_service · active",
    "To make it measurable: Grant the right: GRANT pg_monitor TO tracktion_monitor",
    "What was checked and is fine",
)


class Page(HTMLParser):
    """The elements of a page: ``tags`` with their attributes, ``text``, ``ids``. One that is not closed is an error."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())
        self.ids = [dict(attributes).get("id") for _tag, attributes in self.tags if dict(attributes).get("id")]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in SVG_EMPTY
        self.tags.append((tag, attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def write(report, names, folder, warnings):
    return _outputs.write(_outputs.make(report, names, warnings.append), str(folder), warnings.append)


def render(report, name):
    return _outputs.render(cleaned(copy.deepcopy(report)), name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("report", REPORTS)
def test_the_same_report_gives_the_same_bytes(report, name):
    assert render(REPORTS[report], name) == render(REPORTS[report], name)


@pytest.mark.parametrize("report", REPORTS)
def test_the_page_is_well_formed_and_needs_nothing_else(report):
    text = render(REPORTS[report], "html")
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form"} & {tag for tag, _attributes in page.tags}
    for _tag, attributes in page.tags:
        for key, value in attributes:
            assert not key.startswith("on")
            # Under a strict content security policy, an attribute style is removed.
            assert key not in ("src", "style", "srcset", "action")
            assert key != "href" or value.startswith("#")
    assert "url(" not in text
    assert "@import" not in text
    assert len(page.ids) == len(set(page.ids))
    links = {value[1:] for _tag, attributes in page.tags for key, value in attributes if key == "href"}
    labels = {value for _tag, attributes in page.tags for key, value in attributes if key == "aria-labelledby"}
    assert links | labels <= set(page.ids)


@pytest.mark.parametrize("report", REPORTS)
def test_headings_landmarks_and_tables_can_be_followed(report):
    """What axe-core (``tests/bench/bench_page.py``) tests in a browser, as far as the markup shows it."""
    text = render(REPORTS[report], "html")
    page = Page(text)
    tags = [tag for tag, _attributes in page.tags]
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert [tags.count(tag) for tag in ("header", "main", "footer", "nav")] == [1, 1, 1, 1]
    # The first link, so that a keyboard skips the navigation.
    assert next(dict(attributes) for tag, attributes in page.tags if tag == "a") == {"class": "skip", "href": "#main"}
    for table in re.findall("<table.*?</table>", text, re.DOTALL):
        assert re.match(r"<table[^>]*><caption[^>]*>[^<]+</caption>\s*<thead>", table)
        assert "<th>" not in table
    for _tag, attributes in page.tags:
        given = dict(attributes)
        # What scrolls can be scrolled by keyboard, and has a name.
        assert given.get("class") != "scroll" or (given["tabindex"], bool(given["aria-label"])) == ("0", True)
        assert given.get("role") in (None, "img", "region")


def test_an_incident_is_in_the_list_at_the_beginning():
    links = re.findall(r'<li>.*?<a href="#(i-\d+)">(.*?)</a>(.*?)</li>', render(REPORTS["one"], "html"))
    assert [(anchor, title) for anchor, title, _rest in links] == [
        ("i-1", "Space: /var/lib/docker"),
        ("i-2", "Slow: tracklist_service"),
    ]
    assert "since 2026-11-23 01:50:00 UTC (23 min 20 s), new in this run; 3 findings follow" in links[0][2]
    assert 'href="#i-1"' not in render(REPORTS["hostile"], "html")


def test_a_box_has_its_status_as_a_sign_and_the_number_of_its_step():
    text = render(REPORTS["one"], "html")
    assert ">\u2716 Space: /var/lib/docker</text>" in text
    assert ">2. \u26a0 Blocked: file_watcher</text>" in text


def test_the_page_shows_all_parts():
    text = Page(render(REPORTS["one"], "html")).text
    for part in PARTS:
        assert part in text, part


def test_each_drawing_has_a_title_and_a_table_or_a_list():
    text = render(REPORTS["one"], "html")
    drawings = re.findall(r"<svg [^>]*>.*?</svg>", text, re.DOTALL)
    shown = [drawing for drawing in drawings if 'aria-hidden="true"' not in drawing]
    assert len(shown) == 8
    for drawing in shown:
        assert re.search(r'role="img" aria-labelledby="([\w-]+)"', drawing)
        assert re.search(r"<title id=\"[\w-]+\">[^<]+</title>", drawing)
        # XML, so that a mail program can show it.
        xml.dom.minidom.parseString(drawing)
    for figure in re.findall(r"<figure>.*?</figure>", text, re.DOTALL):
        assert "<table " in figure


def test_names_from_hosts_are_only_names():
    page = Page(render(REPORTS["hostile"], "html"))
    assert '<script>alert("x")</script>: 500 messages' in page.text
    assert "</title></style><b>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "abc\\u202egpj.exe" in page.text
    assert "\\x1b[31mred" in page.text
    for name in NAMES:
        text = render(REPORTS["hostile"], name)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\ud800-\udfff]", text), name


def test_hostile_names_stay_within_their_line_of_metrics():
    for line in render(REPORTS["hostile"], "prometheus").splitlines():
        assert re.fullmatch(
            r"# (HELP|TYPE) tracktion_\w+ .*|tracktion_\w+(\{(\w+=\"(\\.|[^\"\\])*\",?)*\})? [0-9.e+-]+", line
        ), line


def test_metrics_of_objects_are_sums():
    report = REPORTS["hostile"]
    many = copy.deepcopy(report)
    many["findings"] = [{**each, "id": "message_queue.same"} for each in many["findings"]]
    text = render(many, "prometheus")
    assert 'area="message_queue",check="message_queue.same",status="critical"} 11\n' in text


def test_series_are_bounded():
    assert render(sample_report.of_fleet(400, 40), "prometheus").count("tracktion_check_findings{") == 5000


def test_the_junit_file_counts_what_it_lists():
    for name, report in REPORTS.items():
        document = xml.dom.minidom.parseString(render(report, "junit"))
        for suite in document.getElementsByTagName("testsuite"):
            for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
                assert int(suite.getAttribute(attribute)) == len(suite.getElementsByTagName(tag)), name
        total = sum(int(suite.getAttribute("tests")) for suite in document.getElementsByTagName("testsuite"))
        assert int(document.documentElement.getAttribute("tests")) == total


@pytest.mark.parametrize("report", REPORTS)
def test_the_junit_file_has_what_ci_servers_read(report):
    """The elements and attributes that the schema of Jenkins allows and requires (junit-10.xsd of its plugin xunit)."""
    document = xml.dom.minidom.parseString(render(REPORTS[report], "junit"))
    suites = document.documentElement
    assert suites.tagName == "testsuites"
    assert set(suites.attributes.keys()) <= {"name", "time", "tests", "failures", "errors"}
    for suite in _elements(suites):
        required = {"name", "tests", "failures", "errors"}
        assert suite.tagName == "testsuite"
        assert required <= set(suite.attributes.keys()) <= required | {"time", "timestamp"}
        assert re.fullmatch(r"[0-9]+\.[0-9]{3}", suite.getAttribute("time"))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.getAttribute("timestamp"))
        for case in _elements(suite):
            assert case.tagName == "testcase"
            assert set(case.attributes.keys()) == {"name", "classname"}
            for result in _elements(case):
                assert result.tagName in ("failure", "error", "system-out")
                assert set(result.attributes.keys()) == (
                    set() if result.tagName == "system-out" else {"type", "message"}
                )
                assert not _elements(result)


def _elements(element):
    return [child for child in element.childNodes if child.nodeType == child.ELEMENT_NODE]


def test_markdown_is_short_and_text_from_hosts_is_code():
    text = render(REPORTS["hostile"], "markdown")
    for line in text.splitlines():
        if line.startswith("```"):
            continue
        outside = re.sub(r"`[^`]*`", "", line)
        assert not re.search(r"<|@|\]\(", outside), line
    assert len(render(sample_report.of_fleet(500, 20), "markdown")) < 20000


def test_markdown_shows_since_when_what_follows_and_what_to_do():
    text = render(REPORTS["one"], "markdown")
    for part in (
        "`/var/lib/docker is 98 % full (limit 95 %)` (since 2026-11-23T01:50:00Z (23 min 20 s), new in this run)",
        "\n  - warning: `file_watcher: 1 connection is blocked`\n",
        "Do first: Look at the log (`docker logs --tail 100 tracktion-music-1-1`)",
        "(since the run of 2026-11-20T02:13:20Z (3 d) or earlier)",
        "To make it measurable: Grant the right: `GRANT pg_monitor TO tracktion_monitor`",
    ):
        assert part in text, part


def test_unknown_checks_are_not_called_fine():
    report = copy.deepcopy(REPORTS["one"])
    report.update(incidents=[], findings=[each for each in report["findings"] if each["status"] == "unknown"])
    text = Page(render(report, "html")).text
    assert "Nothing is critical, and there is no warning. 2 items could not be checked : see" in text
    assert "could not be checked :" not in Page(render(REPORTS["ok"], "html")).text


@pytest.mark.parametrize(("hosts", "findings", "most"), [(1, 200, _html.HOST_BYTES), (400, 25, _html.FLEET_BYTES)])
def test_a_large_page_is_cut_and_says_so(hosts, findings, most):
    report = sample_report.of_fleet(hosts, findings)
    for each in report["findings"]:
        each["summary"] += " x" * 700
        each["hint"] += " y" * 700
    text = render(report, "html")
    assert len(text.encode()) <= most
    assert "Left out of this page" in text


def test_five_hundred_hosts_take_seconds():
    report = cleaned(sample_report.of_fleet(500, 20))
    began = time.process_time()
    for name in NAMES:
        _outputs.render(report, name)
    assert time.process_time() - began < 2 * SLACK


def _colours(scheme):
    text = _html._source(_html.STYLES)
    blocks = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", blocks[("light", "dark", "print").index(scheme)]))


def _luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_contrast(scheme):
    """WCAG 2.2, 1.4.3: at least 4.5 for text; 1.4.11: at least 3 for bars against their track and the page."""
    colours = _colours(scheme)

    def contrast(one, other):
        lighter, darker = sorted((_luminance(colours[one]), _luminance(colours[other])), reverse=True)
        return (lighter + 0.05) / (darker + 0.05)

    for back in ("back", "field"):
        for text in ("text", "soft", "critical", "warning", "unknown", "info", "ok"):
            assert contrast(text, back) >= 4.5, (text, back)
    assert contrast("bar", "track") >= 3
    assert contrast("bar", "back") >= 3


def test_files_are_replaced_and_private(tmp_path):
    warnings = []
    (tmp_path / "report.html").write_text("old")
    written = write(REPORTS["one"], [*NAMES, "html"], tmp_path, warnings)
    assert sorted(written) == sorted(NAMES)
    assert sorted(os.listdir(tmp_path)) == ["report.html", "report.junit.xml", "report.md", "report.prom"]
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in written.values()} == {0o640}
    assert not warnings
    assert write(REPORTS["one"], [], tmp_path, warnings) == {}


def test_an_output_that_fails_does_not_cost_the_others(tmp_path):
    (tmp_path / "report.html").mkdir()
    broken = {**copy.deepcopy(REPORTS["one"]), "incidents": [{}]}
    warnings = []
    assert sorted(write(broken, NAMES, tmp_path, warnings)) == ["junit"]
    assert len(warnings) == 3
    assert list(write(REPORTS["one"], ["html", "junit"], tmp_path, warnings)) == ["junit"]
    assert "report.html" in warnings[-1]


@pytest.mark.parametrize("text", ["", "x", "a" * 500, "word " * 100, "界" * 80, "e\u0301" * 60])
def test_text_in_boxes_fits(text):
    for width in (10, 50):
        lines = _html_drawing._lines(text, width)
        assert 1 <= len(lines) <= _html_drawing.LINES_MOST
        assert all(_html_drawing._text.columns(line) <= width for line in lines)
        assert _html_drawing._text.columns(_html_drawing._shortened(text, width)) <= width


def test_a_deep_tree_stays_within_the_drawing():
    nodes = [_html_drawing.Node("node %d" % depth, depth, "critical") for depth in range(30)]
    drawing = _html_drawing.tree(nodes)
    assert all(box["x"] + box["width"] <= _html_drawing.WIDTH for box in drawing["boxes"])
    assert len(drawing["links"]) == 29


def test_one_finding_is_singular_and_an_empty_section_is_left_out():
    names = ("critical", "warning", "unknown", "info")
    report = sample_report.of_one_host()
    for counts in (report["counts"], *report["history"]["counts"]):
        counts.update({name: min(counts[name], 1) for name in names})
    assert re.findall(r">([0-9]+ findings?)<", render(report, "html")) == ["1 finding"]
    text = render(sample_report.report({"music-1": []}), "html")
    assert 'id="unknown"' not in text
    assert "Everything could be checked." in text
    markdown = render(sample_report.report({"music-1": []}), "markdown")
    assert "unknown" not in markdown
