# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors in the log of PostgreSQL that the health check of a container causes. Private to this collection.

Without ``-U``, pg_isready and psql connect as the user of the operating system; without ``-d``, to a database of the
name of the role. The check of pg_isready succeeds, and PostgreSQL logs a FATAL each time. A role or a database that is
given is meant: if it is missing, that is a fault.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Pattern, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker._compose_text import filled
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import SERVICE, Engine
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

PROGRAMS = ("pg_isready", "psql")
# Programs that run another one as another user, whose name is not parsed.
CHANGES_USER = ("su", "sudo", "gosu", "su-exec", "setpriv", "runuser")
LOCAL = ("", "localhost", "127.0.0.1", "::1")
# Options that have a value, by their long names.
OPTIONS = {"U": "username", "d": "dbname", "h": "host", "p": "port", "t": "timeout", "c": "command", "f": "file"}
END = re.compile(r"[;&|]+")
URL = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^@/:]*)(?::[^@/]*)?@)?(?P<host>[^/:?]*)(?::\d+)?(?:/(?P<dbname>[^?]*))?"
)
SETTING = re.compile(r"\b(host|user|dbname)\s*=\s*('[^']*'|\S+)")
# In the languages of PostgreSQL that _log_levels parses.
ROLE = r"(?:role|Rolle|r\xf4le|rol|ruolo)"
DATABASE = r"(?:database|Datenbank|base de d\w{4,6}|banco de dados)"
CONFIG_FILES = "com.docker.compose.project.config_files"
DEFAULT_SECONDS = 30.0
MOST_BYTES = 1 << 20
# Checks of one interval whose errors are explained: two, as their times vary.
PER_INTERVAL = 2


class Target(NamedTuple):
    """What a command connects to, and whether role and database are defaults of the program."""

    user: str
    database: str
    host: str
    is_user_implied: bool
    is_database_implied: bool


class HealthCheck(NamedTuple):
    """A health check that causes errors. ``pattern`` matches them in the log of ``host``, or of its own container."""

    pattern: Pattern[str]
    host: str
    seconds: float
    container: str
    command: str
    user: str
    database: str
    # Role and database that the image of PostgreSQL creates, and where the check is configured; null if not known.
    right_user: str | None
    right_database: str | None
    file: str | None
    line: int | None

    def as_result(self) -> Part:
        """Return the field ``health_check`` of a known message."""
        names = ("container", "command", "user", "database", "right_user", "right_database", "file", "line")
        return {name: getattr(self, name) for name in names}


class Allowance:
    """Which of the errors that a health check may cause are explained by it: not more than it runs."""

    def __init__(self, check: HealthCheck) -> None:
        self.check = check
        self._counts: dict[int, int] = {}

    def explains(self, text: str, moment: float | None) -> bool:
        """Return whether the check explains the error, and count it then."""
        if moment is None or not self.check.pattern.search(text):
            return False
        key = int(moment // self.check.seconds)
        self._counts[key] = self._counts.get(key, 0) + 1
        return self._counts[key] <= PER_INTERVAL


def of_container(config: Mapping[str, Any]) -> HealthCheck | None:
    """Return the health check of a container, by its config.v2.json, if it can cause errors in PostgreSQL's log."""
    settings = config.get("Config") or {}
    check = settings.get("Healthcheck") or {}
    environment = dict(entry.partition("=")[::2] for entry in settings.get("Env") or [])
    for words in commands(check.get("Test") or [], environment):
        found = target(words, environment, str(settings.get("User") or ""))
        pattern = found and error_of(found, environment)
        if found is None or pattern is None:
            continue
        file, line = place(settings.get("Labels") or {}, os.path.basename(words[0]))
        return HealthCheck(
            pattern,
            found.host,
            interval(check),
            (config.get("Name") or "").lstrip("/"),
            redact(shlex.join(words)),
            found.user,
            found.database,
            *created(environment),
            file,
            line,
        )
    return None


def interval(check: Mapping[str, Any]) -> float:
    """Return the seconds between two runs of a health check: the shorter one, if it runs more often at the start."""
    regular = (check.get("Interval") or 0) / 1e9 or DEFAULT_SECONDS
    return min(regular, (check.get("StartInterval") or 0) / 1e9 or regular)


def commands(test: Sequence[str], environment: Mapping[str, str]) -> Iterator[list[str]]:
    """Yield the commands of a health check that call one of ``PROGRAMS``, as words."""
    if test[:1] == ["CMD-SHELL"]:
        try:
            lexer = shlex.shlex(" ".join(test[1:]), posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words = [word if END.fullmatch(word) else filled(word, environment) for word in lexer]
        except ValueError:
            return
    else:
        words = list(test[1:])
    current: list[str] = []
    for word in [*words, ";"]:
        if word is None:
            # A variable that is not known.
            return
        if not END.fullmatch(word):
            current.append(word)
            continue
        if current and os.path.basename(current[0]) in CHANGES_USER:
            return
        starts = [at for at, each in enumerate(current) if os.path.basename(each) in PROGRAMS]
        if starts:
            yield current[starts[0] :]
        current = []


def target(words: Sequence[str], environment: Mapping[str, str], account: str) -> Target | None:
    """Return what a command connects to, started by an account of the container; null if that is not known."""
    given: dict[str, str] = {}
    positional: list[str] = []
    rest = list(words[1:])
    while rest:
        word = rest.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("--"):
            if name in OPTIONS.values():
                given[name] = value if equals else (rest.pop(0) if rest else "")
        elif word.startswith("-") and word[1:2] in OPTIONS:
            given[OPTIONS[word[1:2]]] = word[2:] or (rest.pop(0) if rest else "")
        elif not word.startswith("-"):
            positional.append(word)
    if os.path.basename(words[0]) == "psql":
        for name, value in zip(("dbname", "username"), positional):
            given.setdefault(name, value)
    text = given.get("dbname", "")
    url = URL.match(text)
    parts = {key: value or "" for key, value in url.groupdict().items()} if url else {}
    if not url and "=" in text:
        parts = {key: value.strip("'") for key, value in SETTING.findall(text)}
    if url or "=" in text:
        given.update(dbname=parts.get("dbname", ""))
        given.setdefault("username", parts.get("user", ""))
        given.setdefault("host", parts.get("host", ""))
    named_user = given.get("username") or environment.get("PGUSER")
    named_database = given.get("dbname") or environment.get("PGDATABASE")
    own = account.partition(":")[0]
    user = named_user or ("root" if own in ("", "0") else own)
    if not named_user and user.isdigit():
        return None
    host = given.get("host") or environment.get("PGHOST") or ""
    return Target(
        user, named_database or user, "" if host.startswith("/") else host, not named_user, not named_database
    )


def error_of(found: Target, environment: Mapping[str, str]) -> Pattern[str] | None:
    """Return the pattern of the errors about names that are implied; null if these exist, as far as is known."""
    parts = []
    if found.is_user_implied and found.user != environment.get("POSTGRES_USER", "postgres"):
        parts.append((ROLE, found.user))
    if found.is_database_implied and found.database != environment.get("POSTGRES_DB", "postgres"):
        parts.append((DATABASE, found.database))
    if not parts:
        return None
    either = "|".join(r"\b%s [\"\xab\xbb]\s?%s\s?[\"\xab\xbb]" % (word, re.escape(name)) for word, name in parts)
    return re.compile(r"FATAL:\s[^\n]{0,40}?(?:%s)" % either)


def created(environment: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the role and the database that the image of PostgreSQL creates; null if they are not known."""
    if "POSTGRES_USER" not in environment and "POSTGRES_PASSWORD" not in environment:
        return None, None
    user = environment.get("POSTGRES_USER") or "postgres"
    return user, environment.get("POSTGRES_DB") or user


def place(labels: Mapping[str, str], program: str) -> tuple[str | None, int | None]:
    """Return the compose file and the line where a health check calls a program; null if they cannot be found."""
    service = re.compile(r"""(\s{1,8})["']?%s["']?:\s*(?:#.*)?$""" % re.escape(labels.get(SERVICE) or ""))
    for path in (labels.get(CONFIG_FILES) or "").split(","):
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                lines = stream.read(MOST_BYTES).splitlines()
        except (OSError, ValueError):
            continue
        indent = None
        for number, line in enumerate(lines, 1):
            found = service.match(line)
            if found:
                indent = len(found.group(1))
            elif indent is not None and line.strip() and len(line) - len(line.lstrip()) <= indent:
                indent = None
            if indent is not None and program in line and not line.lstrip().startswith("#"):
                return path, number
    return None, None


def of_engine(engine: Engine, identities: Iterable[str]) -> tuple[list[HealthCheck], dict[str, str]]:
    """Return the health checks of these containers that cause errors, and the names of containers by address."""
    checks, names = [], {}
    for identity in identities:
        config = engine.file(identity, "config.v2.json") or {}
        check = of_container(config)
        if check:
            checks.append(check)
        for network in ((config.get("NetworkSettings") or {}).get("Networks") or {}).values():
            if network and network.get("IPAddress"):
                names[network["IPAddress"]] = (config.get("Name") or identity[:12]).lstrip("/")
    return checks, names


def applies(check: HealthCheck, container: str | None, service: str | None) -> bool:
    """Return whether the errors of a check appear in the log of this container."""
    if check.host in LOCAL:
        return check.container == container
    return check.host in (container, service)
