# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Takes secrets out of text that goes into results and reports. Private to this collection.

The one place that knows what a secret looks like. Where it is in doubt it hides too much: a hidden word costs a look
into the log itself, a shown password costs more.
"""

from __future__ import annotations

import re

HIDDEN = "***"

# A statement that sets a password carries it in its text.
PASSWORD = re.compile(r"""(\bpassword\s*(?:=|\bto\b)?\s*)(?:e?'(?:[^']|'')*(?:'|$)|\$\$.*?(?:\$\$|$))""", re.I | re.S)

# Names whose value is a secret, wherever in a longer name (PGPASSWORD, X-Api-Key, aws_secret_access_key).
NAMES = (
    r"passw(?:or)?d|passphrase|passcode|pwd|\bpass\b|_pass\b|secret|token|credential|cookie|"
    r"(?:api|access|private|secret|auth|account|encryption|signing|shared)[_.\- ]?key|"
    r"bearer|sess(?:ion)?[_-]?id|\bsession(?=\\*[\"']|=)|\bsid\b|csrf|signature|\bsig\b|\bdsn_pw"
)
# Bounded, as everything here that repeats: a line may be made of nothing but such names.
NAME = r"(?:%s)[\w.\-]{0,40}" % NAMES
# A quote may be escaped, several times over: JSON in JSON. One that is not closed runs to the end.
QUOTED = r"""[bu]?(\\*")(?:(?!(?<!\\)\3).)*(?:\3|$)|[bu]?(\\*')(?:(?!(?<!\\)\4).)*(?:\4|$)"""
BARE = r"""[^\s,;&"'<>(){}\[\]\\][^\s,;&"'<>]*"""
# A list or a mapping of secrets goes as a whole, as far as the first bracket that closes.
BRACKETED = r"""\[[^\]]*(?:\]|$)|\{[^}]*(?:\}|$)|\([^)]*(?:\)|$)"""
# A phrase without quotes, where nothing but words follows the colon: up to a mark, or a name with its value.
PHRASE = r"""[^\s,;&"'<>(){}\[\]\\|=]+(?:[ \t]+[^\s,;&"'<>(){}\[\]\\|=]+(?![=\w]))*"""
# A run of these characters that has digits, small and capital letters.
MIXED = r"(?={0}*[0-9])(?={0}*[a-z])(?={0}*[A-Z]){0}"


def _card(found):
    """What a number like that of a credit card is shown as: the last digit of a true one follows from the others."""
    digits = [int(digit) for digit in reversed(found.group()) if digit.isdigit()]
    total = sum(digits[0::2]) + sum(2 * digit - 9 * (digit > 4) for digit in digits[1::2])
    return found.group() if total % 10 else HIDDEN


# In this order: each rule sees what those before it have left.
RULES = tuple(
    (re.compile(pattern, flags), replacement)
    for pattern, flags, replacement in (
        # Keys and certificates in PEM, also where the end is missing or line ends are escaped.
        (r"-----BEGIN ([A-Z0-9 ]+)-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.S, r"-----BEGIN \1----- " + HIDDEN),
        # scheme://user:password@host, up to the last @ of the word; and a long user that is a token.
        (r"""(\b[a-z][a-z0-9+.\-]{0,20}://[^\s/:"'<>]*:)[^\s"'<>]+@""", re.I, r"\1" + HIDDEN + "@"),
        # The same cut off before the @, where it is no port.
        (r"""(\b[a-z][a-z0-9+.\-]{0,20}://[^\s/:@"'<>]*:)(?!\d+\Z)[^\s"'<>@/]+\Z""", re.I, r"\1" + HIDDEN),
        (r"""(\b[a-z][a-z0-9+.\-]{0,20}://)[^\s/:@"'<>]{20,}@""", re.I, r"\1" + HIDDEN + "@"),
        # HTTP's headers. Digest has quotes among its values.
        (r"""(authorization\\*["']?\s*[:=,]\s*\\*["']?digest\s)[^\r\n]+""", re.I, r"\1" + HIDDEN),
        (
            r"""(authorization\\*["']?\s*[:=,]\s*\\*["']?)((?:basic|bearer|digest|negotiate|token|apikey|aws4-[\w-]+)\s+)?"""
            r"""[^\r\n"'\\]+""",
            re.I,
            r"\1\2" + HIDDEN,
        ),
        (r"""(\b(?:set-)?cookie\\*["']?\s*[:=]\s*\\*["']?)[^\r\n"'\\]+""", re.I, r"\1" + HIDDEN),
        (r"(\b[Bb](?:earer|EARER) )[\w.~+/\-]{6,}=*", 0, r"\1" + HIDDEN),
        (r"(\b[Bb](?:asic|ASIC) )(?=\S*(?:[0-9=]|[a-z][A-Z]))[A-Za-z0-9+/]{6,}=*", 0, r"\1" + HIDDEN),
        # SQL. PASSWORD '...' is hide_passwords().
        (
            r"""(\bidentified\s+(?:with\s+\S+\s+)?(?:by|as)\s+(?:password\s+)?)('[^']*(?:'|$)|"[^"]*(?:"|$)|\S+)""",
            re.I,
            r"\1'" + HIDDEN + "'",
        ),
        # {"name": "PASSWORD", "value": "..."}, <add key="password" value="..."/>, <password>...</password>
        (
            r"""(\b(?:name|key|id)\\*["']?\s*[=:]\s*\\*["'][\w.\-]{{0,40}}?{}\\*["']\s*,?\s*\\*["']?value\\*["']?\s*[=:]\s*)"""
            r"""({}|{})""".format(NAME, QUOTED, BARE),
            re.I | re.S,
            r"\1" + HIDDEN,
        ),
        (r"""(<[\w:.\-]{{0,40}}?{}(?:\s[^<>]{{0,100}})?>)[^<]+(?=</|\Z)""".format(NAME), re.I, r"\1" + HIDDEN),
        # password: some words
        (r"""((?:passw(?:or)?d|passphrase)\\*["']?\s*:[ \t]+)(?:%s)""" % PHRASE, re.I, r"\1" + HIDDEN),
        # name=value, name: value, "name": "value", ('name', 'value'), name => value, name%3Dvalue, name("value"),
        # --name value
        (r"""({}\\*["']\s*,\s*)({})""".format(NAME, QUOTED), re.I | re.S, r"\1" + HIDDEN),
        (
            r"""({}\\*["']?\s*(?:=>|->|\u2192|:=|==?|:|%3[da])\s*)({}|{}|{})""".format(NAME, QUOTED, BRACKETED, BARE),
            re.I | re.S,
            r"\1" + HIDDEN,
        ),
        (r"""({}\(\s*)({})""".format(NAME, QUOTED), re.I | re.S, r"\1" + HIDDEN),
        (r"""((?<![\w\-])--?[\w\-]{{0,40}}?{}\s+)({}|{})""".format(NAME, QUOTED, BARE), re.I | re.S, r"\1" + HIDDEN),
        # password is x, password "x", token x9
        (r"""(\b(?:password|passphrase|secret|token)\s+(?:is|was|of|to):?\s+)(\S+)""", re.I, r"\1" + HIDDEN),
        (
            r"""(\b(?:password|passphrase|secret|token)\s+)("[^"]*(?:"|$)|`[^`]*(?:`|$)|'(?:[^']|'')*(?:'|$))""",
            re.I,
            r"\1" + HIDDEN,
        ),
        (r"""(\b(?:password|passphrase|token|api[ _\-]?key)\s+)(?=\S*\d)[^\s"'<>]{6,}""", re.I, r"\1" + HIDDEN),
        # Redis
        (
            r"""(\bAUTH["']?(?:\s+["']?\w{1,40}["']?)?\s+)("[^"]*(?:"|$)|'[^']*(?:'|$)|(?=\S*\d)[^\s"'<>]+)""",
            0,
            r"\1" + HIDDEN,
        ),
        (r"""(\b(?:requirepass|masterauth)\\*["']?\s+)\S+""", re.I, r"\1" + HIDDEN),
        # Programs whose options are letters: curl -u user:x, redis-cli -a x, mysql -px
        (r"""((?<!\S)(?:-u|--user|--proxy-user)[ =]?["']?[^\s:"'/]{1,64}:)[^\s"']+""", 0, r"\1" + HIDDEN),
        (r"(\bredis-cli\b[^\n|;]{0,200}?\s-a\s{0,3})\S+", 0, r"\1" + HIDDEN),
        (r"(\b(?:mysql\w*|mariadb|sshpass|docker login)\b[^\n|;]{0,200}?\s-p\s{0,3})\S+", 0, r"\1" + HIDDEN),
        # Tokens that show by their shape whose they are.
        (r"\beyJ[\w\-]{6,}\.[\w\-]+(?:\.[\w\-]*)?", 0, HIDDEN),
        (r"\b(?:AKIA|ASIA|AGPA|AROA|AIDA)[0-9A-Z]{12,}\b", 0, HIDDEN),
        (r"\b(?:gh[pousr]_|github_pat_|glpat-|npm_|pypi-|dop_v1_|hv[sb]\.|xox[abeprs]-|xapp-)[\w\-]{10,}", 0, HIDDEN),
        (r"\b(?:sk|pk|rk)[_\-](?:live_|test_|ant-|proj-)?[\w\-]{16,}", 0, HIDDEN),
        (r"\bAIza[\w\-]{30,}|\bya29\.[\w\-]{10,}|\bSG\.[\w\-]{10,}\.[\w\-]{10,}", 0, HIDDEN),
        (
            r"(hooks\.slack\.com/services/|discord(?:app)?\.com/api/webhooks/|api\.telegram\.org/bot)[^\s\"']+",
            re.I,
            r"\1" + HIDDEN,
        ),
        (r"\bSCRAM-SHA-\d+\$\S+", 0, HIDDEN),
        # People.
        (r"[\w.+%\-]{1,64}(?:@|%40)[\w\-]{1,64}(?:\.[\w\-]{1,64})+", 0, HIDDEN + "@" + HIDDEN),
        (
            r"(?<![\w.\-])(?:[4-6]\d{3}(?:([ \-]?)\d{4})(?:\1\d{4}){2}|3[47]\d\d([ \-]?)\d{6}\2\d{5})(?![\w\-])",
            0,
            _card,
        ),
        # Whatever else is long and looks random: hexadecimal, base64.
        (r"(?<![0-9A-Za-z])(?:0x|md5)?[0-9a-fA-F]{32,}(?![0-9A-Za-z])", 0, HIDDEN),
        (r"(?<![\w+/\-])" + MIXED.format(r"[\w+\-]") + r"{32,}={0,2}", 0, HIDDEN),
        (r"(?<![\w+/.\-])" + MIXED.format("[A-Za-z0-9+/]") + r"{40,}={0,2}", 0, HIDDEN),
    )
)


def hide_passwords(query):
    """``query``, a statement in SQL, without the literals that follow the word PASSWORD."""
    return None if query is None else PASSWORD.sub(r"\1'***'", query)


def redact(text):
    """``text`` without passwords, tokens, keys, e-mail addresses, and what is long and looks random."""
    if text is None:
        return None
    for pattern, replacement in RULES:
        text = pattern.sub(replacement, text)
    return hide_passwords(text)


def redact_setting(name: str, value: str | None) -> str | None:
    """Return the value of the variable ``name`` as ``redact`` shows it after this name."""
    if value is None:
        return None
    head, shown = name + "=", redact("%s=%s" % (name, value))
    return shown[len(head) :] if shown.startswith(head) else HIDDEN
