# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hints of modules begin with a verb, name options between backticks, and contain a command."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.tracktion.ops.plugins.module_utils import _failures
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine
from ansible_collections.tracktion.ops.plugins.module_utils._http import _http_exchange
from ansible_collections.tracktion.ops.plugins.module_utils._network import _dns
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_failures
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _settings

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "plugins" / "module_utils").rglob("*.py"))
VERBS = (
    "Add|Allow|Begin|Check|Clear|Compare|Correct|Create|Enable|End|Free|Give|Grant|Install|Leave|List|Look|Measure|Name|"
    "Raise|Read|Run|Set|Show|Start|Turn|Upgrade|Wait"
)
HINT = re.compile(r"(?:%s) " % VERBS)
# A verb before the name of an option: "Raise timeout", "or set tls". "Correct the name" is another thing.
SETTING = r"(?:set|raise|lower|correct|omit|name|give|(?<=` and)|(?<=` or)|(?<=`,))"
QUOTED = re.compile(r"`([^`]*)`")
# Commands of one word.
PROGRAMS = {"uptime"}


def options():
    """Return the names of all options of all modules, with those of their items."""
    found = set()

    def add(described):
        for name, option in described.items():
            found.add(name)
            add(option.get("suboptions") or {})

    for folder, constant in (("modules", "DOCUMENTATION"), ("doc_fragments", None)):
        for path in (ROOT / "plugins" / folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                is_text = isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
                if is_text and constant in (None, node.targets[0].id):
                    add((yaml.load(node.value.value, yaml.CSafeLoader) or {}).get("options") or {})
    return found


OPTIONS = options()
VARIABLES = {name for area in _areas.find() for name in area.defaults}


def hints():
    """Yield ``(place, text)`` of the hints in the source: texts for ``hint``, and those that begin with a verb."""
    for path in SOURCES:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        given = set()
        for node in nodes:
            named = isinstance(node, ast.keyword) and node.arg == "hint"
            assigned = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "hint"
            if named or assigned:
                given |= {id(each) for each in texts(node.value)}
        for node in nodes:
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
            if is_text and (id(node) in given or HINT.match(node.value)):
                yield "%s:%d" % (path.name, node.lineno), node.value


def texts(node):
    """Yield the texts of which one is the value of an expression, or of which it is composed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        yield node
    elif isinstance(node, ast.BinOp):
        yield from texts(node.left)
        if isinstance(node.op, ast.Add):
            yield from texts(node.right)
    elif isinstance(node, ast.BoolOp):
        for each in node.values:
            yield from texts(each)
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)


ALL = list(hints())


def unmarked(text):
    """Return the options that a hint names outside of backticks."""
    outside = QUOTED.sub("``", text)
    words = "|".join(sorted(OPTIONS, key=len, reverse=True))
    after = re.findall(r"(?i)\b%s (?:more )?(%s)\b(?! of)" % (SETTING, words), outside)
    return [word for word in re.findall(r"\b\w+_\w+\b", outside) if word in OPTIONS] + after


def named(text):
    """Return the options that a hint names between backticks."""
    return [match.group() for match in _settings.OPTION.finditer(text) if match.group() not in PROGRAMS]


def commands(text):
    """Return the commands of a hint."""
    marked = {match.start() for match in _settings.OPTION.finditer(text) if match.group() not in PROGRAMS}
    return [match.group(1) for match in QUOTED.finditer(text) if match.start() + 1 not in marked]


def test_the_hints_are_found():
    assert len(ALL) > 100
    assert {"timeout", "deadline", "tls", "vhost", "url"} <= OPTIONS


@pytest.mark.parametrize(("place", "text"), ALL, ids=["%s %s" % (place, text[:30]) for place, text in ALL])
def test_a_hint_begins_with_a_verb_and_marks_options(place, text):
    assert HINT.match(text) or text[0] in "%`{" or text.startswith("If "), text
    assert unmarked(text) == []
    for name in named(text):
        assert name in OPTIONS | VARIABLES, "%s is no option" % name


@pytest.mark.parametrize(
    "text",
    [
        "Raise timeout.",
        "Check login_host.",
        "Correct `name` and vhost.",
        "Raise `max_queues` and timeout.",
        "Set tls: true.",
    ],
)
def test_an_option_without_backticks_is_found(text):
    assert unmarked(text)


@pytest.mark.parametrize("text", ["Correct the name.", "Raise `timeout`.", "Name services of the project."])
def test_another_word_is_no_option(text):
    assert unmarked(text) == []


WHERE = {"login_host": "h", "login_port": 1, "amqp_port": 2, "login_user": "u", "timeout": 3.0, "deadline": 9.0}
ERRORS = (ConnectionRefusedError(), TimeoutError(), ConnectionResetError(), OSError("other"))
ENGINES = (_engine.Address("unix:///run/docker.sock", path="/run/docker.sock"), _engine.Address("h", host="h", port=1))


def of_postgresql():
    for socket in ("", "/run"):
        options = {**WHERE, "login_db": "d", "login_unix_socket": socket}
        for kind in sorted({"failed", "no_answer", *(kind for kind, _pattern in _pg_failures.MESSAGES)}):
            yield "postgresql %s%s" % (kind, socket), _pg_failures.hint_of(kind, options)


def of_redis():
    for kind in _redis.FAILURES:
        yield "redis " + kind, _redis.failure(kind, "h:1", "").hint
    for code, rejection in {**_redis.REJECTIONS, "maxclients": _redis.TOO_MANY_CLIENTS}.items():
        yield "redis " + code, rejection.hint


def of_rabbitmq():
    for kind in _rabbitmq.KINDS:
        yield "rabbitmq " + kind, _rabbitmq.hint_for(kind, WHERE)
    for amqp in (False, True):
        for exc in ERRORS:
            yield "rabbitmq %r" % exc, _rabbitmq.connection_failure(exc, WHERE, amqp=amqp).hint


def of_engine():
    for engine in ENGINES:
        for exc in (FileNotFoundError(), _engine.ConnectTimeout(), *ERRORS):
            yield "engine %s %r" % (engine, exc), _engine.failure_of(exc, engine).hint


def of_every_service():
    for service in (_http_exchange.SERVICE, _rabbitmq.API, _rabbitmq.AMQP, _engine.SERVICE):
        for kind in _failures.HINTS:
            if kind != "authentication" or service.credentials:
                yield "%s %s" % (service.name, kind), _failures.hint(kind, service._replace(host="h", port=1))


def failures():
    """Yield ``(place, hint)`` for each kind of failure to reach a service."""
    for kinds in (of_postgresql, of_redis, of_rabbitmq, of_engine, of_every_service):
        yield from kinds()
    for kind, hint in _http_exchange.KINDS.items():
        yield "http " + kind, hint
    for kind, failure in _dns.FAILURES.items():
        yield "dns " + kind, failure.hint


FAILURES = list(failures())
# Only an option is to be changed, or (with the credentials of a request) nothing of the host can be asked.
WITHOUT_COMMAND = re.compile(r"rabbitmq too_many|.* authentication")


@pytest.mark.parametrize(("place", "hint"), FAILURES, ids=[place for place, _hint in FAILURES])
def test_a_failure_to_reach_a_service_has_a_command(place, hint):
    assert commands(hint) or (WITHOUT_COMMAND.fullmatch(place) and named(hint)), hint
    assert not re.search(r"\{\w+\}(?! )", hint.replace("{cli}", "")), hint
