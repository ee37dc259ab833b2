# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses and answers as they may be shown: they open no door and move no cursor. Private to this collection."""

from __future__ import annotations

import base64
import codecs
import html
import json
import re
import unicodedata
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._redact import HIDDEN, NAMES, redact

# Whose secret it was that redact() has hidden: user@ in a URL, the scheme in a header.
WHOSE = (
    (re.compile(r"(://)[^/\s@\"']+@"), r"\1***@"),
    (re.compile(r"(authorization\W{1,9})[\w-]+ \*\*\*", re.I), r"\1***"),
)
# Values that do not follow their name as in a line of a log: in HTML before it, in a form after an empty line, in YAML
# below it.
APART = tuple(
    re.compile(pattern % NAMES, re.I | flags)
    for pattern, flags in (
        (r"""(\bvalue=)(["'])(?:(?!\2).)*\2(?=[^<>]{0,200}\bname=["']?[\w.\-]{0,40}(?:%s))""", re.S),
        (r"""(\bname="?[\w.\-]{0,40}(?:%s)[\w.\-]{0,40}"?[^\n]{0,200}\n(?:[^\n]{1,200}\n)?\s{0,9}\n)[^\n]+""", 0),
        (r"((?:%s)[\w.\-]{0,40}\s{0,9}:\s{0,9}[|>][+\-]?[ \t]{0,9}\n)(?:[ \t]+[^\n]*\n?)+", 0),
    )
)
CDATA = re.compile(r"<!\[CDATA\[|\]\]>")
# Marks that may stand inside the name of a secret: what replaces control characters, and tags.
INSIDE = (re.compile("\ufffd"), re.compile(r"</?[a-z][^<>]{0,100}>|<!--.{0,100}?-->", re.I | re.S))
# In a query, short names tell as well.
PARAMETER = re.compile(r"^([^=]*(?:%s|authorization|session)[^=]*|key|auth|sig|code|state)=.*" % NAMES, re.I | re.S)
ANY_PARAMETER = re.compile(r"^([^=]*)=.*", re.S)
# What needs no escape in a URL, nor between single quotes in a shell.
PASTABLE = "/%:=&?~+!$,;@()*"
# Shorter values are no secrets worth the name, and hiding each "1" would make nonsense of the text.
SHORTEST = 4
# Escapes of JSON and of many languages. A lone half of a surrogate pair stays.
ESCAPE = re.compile(
    r"(?:\\+|%)u(?!d[89a-f])([0-9a-f]{4})|\\+x([0-9a-f]{2})|\\+u\{0{0,4}([0-9a-f]{2,4})\}|\\([01][0-7]{2})|\\/", re.I
)
# JSON in a URL in HTML.
MOST_LEVELS = 4
# What may be a secret by its looks alone: words that change between letters and digits so often, or are Base64.
WORD = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")
CHANGE = re.compile(r"[A-Za-z](?=[0-9])|[0-9](?=[A-Za-z])")
MANY_CHANGES = 3
UNREADABLE = "(not UTF-8 text)"


def decoded(data):
    """``data`` as text; UNREADABLE where it is none: what cannot be read (compressed, UTF-16) cannot be redacted."""
    try:
        # The last character may be cut.
        text = codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return UNREADABLE
    return UNREADABLE if "\0" in text else text


def excerpt(text, secrets, limit):
    """The beginning of an answer in one line, without these ``secrets`` and without what looks like one."""
    return cut(" ".join(conceal(text, secrets).split()), limit)


def conceal(text, secrets=()):
    """``text`` as hide() returns it, also without what may be a secret by its looks alone: Base64, random letters."""
    return WORD.sub(_without_secret_word, hide(text, secrets))


def hide(text, secrets=()):
    """``text`` without these ``secrets``, without what looks like one, and without what a terminal would obey.

    Escapes and entities are resolved first: they hide a secret's name from the rules, and not from a reader.
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
    for pattern, shown in WHOSE:
        text = pattern.sub(shown, text)
    return text


def plain(text):
    """``text`` with the escapes of JSON, URLs and HTML resolved, nested ones too, and without invisible characters."""
    for _level in range(MOST_LEVELS):
        before = text
        text = ESCAPE.sub(_unescaped, CDATA.sub("", html.unescape(unquote(text, errors="replace"))))
        if text == before:
            break
    text = unicodedata.normalize("NFKC", text)
    return "".join(char for char in text if unicodedata.category(char) != "Cf")


def _unescaped(found):
    code = found.group(1) or found.group(2) or found.group(3)
    if code:
        return chr(int(code, 16))
    return chr(int(found.group(4), 8)) if found.group(4) else "/"


def spellings(secrets):
    """Known secrets as an answer may repeat them."""
    found = set()
    for secret in secrets:
        if len(secret) >= SHORTEST:
            raw = secret.encode("utf-8", "surrogatepass")
            found.update((secret, plain(secret), json.dumps(secret)[1:-1], raw.hex()))
            found.add(base64.b64encode(raw).decode("ascii").rstrip("="))
            found.add(base64.urlsafe_b64encode(raw).decode("ascii").rstrip("="))
    return {spelling for spelling in found if len(spelling.strip()) >= SHORTEST}


def _without_secret_word(found):
    word = found.group()
    changes = max(len(CHANGE.findall(part)) for part in word.split("/"))
    return HIDDEN if changes >= MANY_CHANGES or _is_encoded_text(word) else word


def _is_encoded_text(word):
    """Whether a word is Base64 of something that can be read. Of eight letters in English, one in 400 is by chance."""
    digits = word.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        decoded = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except ValueError:
        return False
    return all(0x20 <= byte < 0x7F or byte in b"\r\n\t" for byte in decoded)


def shown_url(url, whole_query=True):
    """A URL without user, password and fragment; parameters with a secret's name, or all, keep only their names.

    It can be pasted between single quotes.
    """
    parts = urlsplit(url)
    hidden = PARAMETER if whole_query else ANY_PARAMETER
    query = "&".join(hidden.sub(r"\1=" + HIDDEN, parameter) for parameter in parts.query.split("&"))
    host = parts.netloc.rpartition("@")[2].replace("'", "%27")
    path = parts.path
    if not whole_query and conceal(path) != plain(path):
        # A redirect to a page that only its address protects, or with a session in it.
        path = "/" + HIDDEN
    return cut(urlunsplit((parts.scheme, host, quote(path, safe=PASTABLE), quote(query, safe=PASTABLE), "")), 300)


def secrets_in(url):
    """What shown_url() hides: ``user:password``, and the values of parameters with a secret's name."""
    query = url.partition("?")[2].partition("#")[0]
    values = [parameter.partition("=")[2] for parameter in query.split("&") if PARAMETER.match(parameter)]
    return {secret for secret in [_login(url), *values] if len(secret) >= SHORTEST}


def _login(url):
    """What stands before the host of a URL, else nothing."""
    rest = url.partition("//")[2]
    try:
        _port = urlsplit(url).port
    except ValueError:
        # A password with a / or # that nobody has escaped cuts the host short. It may go on up to the last @.
        return rest.rpartition("@")[0]
    return re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[0]


def values_in(body):
    """The single values of a body in JSON, or of a form: an answer may repeat one of them alone."""
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):
        return [value for _name, value in parse_qsl(body)]
    found = []
    while waiting:
        value = waiting.pop()
        if isinstance(value, (dict, list)):
            waiting += value.values() if isinstance(value, dict) else value
        elif value is not None and not isinstance(value, bool):
            found.append(str(value))
    return found
