# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removes secrets and control characters from URLs and answers. Private to this collection."""

from __future__ import annotations

import base64
import codecs
import html
import json
import re
import unicodedata
from typing import Any, Iterable, Match
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._redact import HIDDEN, NAMES, redact

# What redact() leaves beside a secret: user@ in a URL, the scheme in a header.
BESIDE = (
    (re.compile(r"(://)[^/\s@\"']+@"), r"\1***@"),
    (re.compile(r"(authorization\W{1,9})[\w-]+ \*\*\*", re.I), r"\1***"),
)
# Values apart from their name, which redact() does not know from logs: in HTML before it, in a form after an empty
# line, in YAML below it.
APART = tuple(
    re.compile(pattern % NAMES, re.I | flags)
    for pattern, flags in (
        (r"""(\bvalue=)(["'])(?:(?!\2).)*\2(?=[^<>]{0,200}\bname=["']?[\w.\-]{0,40}(?:%s))""", re.S),
        (r"""(\bname="?[\w.\-]{0,40}(?:%s)[\w.\-]{0,40}"?[^\n]{0,200}\n(?:[^\n]{1,200}\n)?\s{0,9}\n)[^\n]+""", 0),
        (r"((?:%s)[\w.\-]{0,40}\s{0,9}:\s{0,9}[|>][+\-]?[ \t]{0,9}\n)(?:[ \t]+[^\n]*\n?)+", 0),
    )
)
CDATA = re.compile(r"<!\[CDATA\[|\]\]>")
# Marks that may split the name of a secret: what replaces control characters, and tags.
INSIDE = (re.compile("\ufffd"), re.compile(r"</?[a-z][^<>]{0,100}>|<!--.{0,100}?-->", re.I | re.S))
# Parameters of a query with the name of a secret, which may be short.
PARAMETER = re.compile(r"^([^=]*(?:%s|authorization|session)[^=]*|key|auth|sig|code|state)=.*" % NAMES, re.I | re.S)
ANY_PARAMETER = re.compile(r"^([^=]*)=.*", re.S)
# Characters that need no escape in a URL, nor between single quotes in a shell.
PASTABLE = "/%:=&?~+!$,;@()*"
# Shorter values are not hidden: replacing each "1" would make the text unreadable.
SHORTEST = 4
# Escapes of JSON and of many languages. A lone half of a surrogate pair stays.
ESCAPE = re.compile(
    r"(?:\\+|%)u(?!d[89a-f])([0-9a-f]{4})|\\+x([0-9a-f]{2})|\\+u\{0{0,4}([0-9a-f]{2,4})\}|\\([01][0-7]{2})|\\/", re.I
)
# Levels of escapes that are resolved, such as JSON in a URL in HTML.
MOST_LEVELS = 4
# Words that look like a secret: Base64 of text, or with many changes between letters and digits.
WORD = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")
CHANGE = re.compile(r"[A-Za-z](?=[0-9])|[0-9](?=[A-Za-z])")
MANY_CHANGES = 3
UNREADABLE = "(not UTF-8 text)"


def decoded(data: bytes) -> str:
    """Return ``data`` as text; UNREADABLE if it is not UTF-8 (compressed, UTF-16), as that cannot be redacted."""
    try:
        # The incremental decoder ignores a last character that is cut.
        text = codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return UNREADABLE
    return UNREADABLE if "\0" in text else text


def excerpt(text: str, secrets: Iterable[str], limit: int) -> str:
    """Return the beginning of ``conceal(text, secrets)`` in one line."""
    return cut(" ".join(conceal(text, secrets).split()), limit)


def conceal(text: str, secrets: Iterable[str] = ()) -> str:
    """Return ``hide(text, secrets)`` without words that look like a secret: Base64, random letters and digits."""
    return WORD.sub(_conceal_word, hide(text, secrets))


def hide(text: str, secrets: Iterable[str] = ()) -> str:
    """Return ``text`` without ``secrets``, values with the name of a secret, and control characters.

    Escapes and entities are resolved first: otherwise they would hide the name of a secret from the rules.
    """
    text = printable(plain(text.replace("\r\n", "\n")))
    for marks in INSIDE:
        bare = marks.sub("", text)
        if bare != text and redact(bare) != bare and redact(text) == text:
            text = bare
    for secret in sorted(spellings(secrets), key=len, reverse=True):
        text = re.sub(r"\s+".join(map(re.escape, secret.split())), HIDDEN, text)
    for pattern in APART:
        text = pattern.sub(r"\1" + HIDDEN, text)
    text = redact(text)
    for pattern, shown in BESIDE:
        text = pattern.sub(shown, text)
    return text


def plain(text: str) -> str:
    """Return ``text`` with nested escapes of JSON, URLs and HTML resolved, and without invisible characters."""
    for _level in range(MOST_LEVELS):
        before = text
        text = ESCAPE.sub(_unescaped, CDATA.sub("", html.unescape(unquote(text, errors="replace"))))
        if text == before:
            break
    text = unicodedata.normalize("NFKC", text)
    return "".join(char for char in text if unicodedata.category(char) != "Cf")


def _unescaped(found: Match[str]) -> str:
    code = found.group(1) or found.group(2) or found.group(3)
    if code:
        return chr(int(code, 16))
    return chr(int(found.group(4), 8)) if found.group(4) else "/"


def spellings(secrets: Iterable[str]) -> set[str]:
    """Return the ways in which an answer may repeat ``secrets``: plain, escaped, hexadecimal, Base64."""
    found: set[str] = set()
    for secret in secrets:
        if len(secret) >= SHORTEST:
            raw = secret.encode("utf-8", "surrogatepass")
            found.update((secret, plain(secret), json.dumps(secret)[1:-1], raw.hex()))
            found.add(base64.b64encode(raw).decode("ascii").rstrip("="))
            found.add(base64.urlsafe_b64encode(raw).decode("ascii").rstrip("="))
    return {spelling for spelling in found if len(spelling.strip()) >= SHORTEST}


def _conceal_word(found: Match[str]) -> str:
    word = found.group()
    changes = max(len(CHANGE.findall(part)) for part in word.split("/"))
    return HIDDEN if changes >= MANY_CHANGES or _is_encoded_text(word) else word


def _is_encoded_text(word: str) -> bool:
    """Return whether a word is Base64 of printable text. One in 400 English words of eight letters is by chance."""
    digits = word.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except ValueError:
        return False
    return all(0x20 <= byte < 0x7F or byte in b"\r\n\t" for byte in data)


def shown_url(url: str, whole_query: bool = True) -> str:
    """Return a URL without user, password and fragment, safe between single quotes in a shell.

    The values of parameters with the name of a secret are hidden; all values unless ``whole_query``.
    """
    parts = urlsplit(url)
    hidden = PARAMETER if whole_query else ANY_PARAMETER
    query = "&".join(hidden.sub(r"\1=" + HIDDEN, parameter) for parameter in parts.query.split("&"))
    host = parts.netloc.rpartition("@")[2].replace("'", "%27")
    path = parts.path
    if not whole_query and conceal(path) != plain(path):
        # The path of a redirect may hold a token or a session.
        path = "/" + HIDDEN
    return cut(urlunsplit((parts.scheme, host, quote(path, safe=PASTABLE), quote(query, safe=PASTABLE), "")), 300)


def secrets_in(url: str) -> set[str]:
    """Return what shown_url() hides: ``user:password``, and the values of parameters with the name of a secret."""
    query = url.partition("?")[2].partition("#")[0]
    values = [parameter.partition("=")[2] for parameter in query.split("&") if PARAMETER.match(parameter)]
    return {secret for secret in [_login(url), *values] if len(secret) >= SHORTEST}


def _login(url: str) -> str:
    """Return ``user:password`` of a URL; empty for none."""
    rest = url.partition("//")[2]
    try:
        _port = urlsplit(url).port
    except ValueError:
        # A / or # in a password that is not escaped ends the host too early: the password may go on to the last @.
        return rest.rpartition("@")[0]
    return re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[0]


def values_in(body: str) -> list[str]:
    """Return each value in a body of JSON, or of a form: an answer may repeat one of them."""
    try:
        pending: list[Any] = [json.loads(body)]
    except (ValueError, RecursionError):
        return [value for _name, value in parse_qsl(body)]
    found = []
    while pending:
        value = pending.pop()
        if isinstance(value, (dict, list)):
            pending += value.values() if isinstance(value, dict) else value
        elif value is not None and not isinstance(value, bool):
            found.append(str(value))
    return found
