# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hides secrets in text that goes into results and reports. Private to this collection.

All patterns of secrets are in this file. In doubt they hide too much: a hidden word can be read in the log itself, a
shown password cannot be taken back.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Callable, Match, Optional, Pattern, TypeVar, Union

HIDDEN = "***"
# A text, which may be null.
Text = TypeVar("Text", str, Optional[str])
Replacement = Union[str, Callable[[Match[str]], str]]

# A statement that sets a password contains it as a literal.
PASSWORD = re.compile(r"""(\bpassword\s*(?:=|\bto\b)?\s*)(?:e?'(?:[^']|'')*(?:'|$)|\$\$.*?(?:\$\$|$))""", re.I | re.S)

# Names whose value is a secret, also as a part of a longer name (PGPASSWORD, X-Api-Key, aws_secret_access_key).
NAMES = (
    r"passw(?:or)?[dt]|passphrase|passcode|pwd|\bpass\b|_pass\b|\bpw\b|_pw\b|secret|token|credential|cookie|"
    r"kennwort|contrase\xf1a|mot de passe|\bsalt\b|\bjwt\b|\botp\b|(?:verification|one[ \-]time|pin)[ _\-]code|"
    r"(?:api|access|private|secret|auth|account|encryption|signing|shared|app|master|licen[cs]e)[_.\- ]?key|"
    r"bearer|sess(?:ion)?[_-]?id|\bsession(?=\\*[\"']|=)|\bsid\b|csrf|signature|\bsig\b|\bdsn_pw|"
    r"web_?hook[_-]?url|auth(?=\\*[\"']?\s*(?:=(?!=)|:\s*[\[({]))"
)
# Bounded, as every repetition in this file: a line may consist of such names only.
NAME = r"(?:%s)[\w.\-]{0,40}" % NAMES
# A quote may be escaped several times: JSON in JSON. One that is not closed extends to the end.
QUOTED = r"""[bu]?(\\*")(?:(?!(?<!\\)\3).)*(?:\3|$)|[bu]?(\\*')(?:(?!(?<!\\)\4).)*(?:\4|$)"""
# A comma, semicolon or ampersand ends a value only if a name with a value follows.
BARE = r"""[^\s,;&"'<>(){}\[\]\\](?:[^\s,;&"'<>]|[,;&](?=[^\s,;&="'<>:]{1,100}(?:[\s,;&]|\Z)))*"""
# In a shell or in SQL, this is a part of the quoted value before it.
ADJACENT = r"""(?:'[^']*(?:'|$)|"[^"]*(?:"|$))*"""
# A value as the argument of a constructor: SecretStr('x').
CALL = r"""[A-Za-z_][\w.]{0,40}\([^)]*(?:\)|$)"""
# A list or a mapping of secrets is hidden up to the first closing bracket.
BRACKETED = r"""\[[^\]]*(?:\]|$)|\{[^}]*(?:\}|$)|\([^)]*(?:\)|$)"""
# Words without quotes after a colon, up to a punctuation mark or a name with its value.
PHRASE = r"""[^\s,;&"'<>(){}\[\]\\|=]+(?:[ \t]+[^\s,;&"'<>(){}\[\]\\|=]+(?![=\w]))*"""
# The name is that of a file, and the text after it an error of the system or of a program that reads the file.
FAILED = (
    r"""(?:\[errno -?\d+\]|permission denied|operation not permitted|no such (?:file|device)|(?:is|not) a directory|"""
    r"""(?:file )?not found|file exists|input/output error|read-only file system|no space left|too many open files|"""
    r"""stale file handle|device or resource busy|disk quota exceeded|(?:eacces|enoent|eperm|eisdir|erofs|enospc)\b)"""
)
SCRIPT_FAILED = r"""(?:line \d+: |\d{1,5}: [\w.\-]{1,40}: |[a-z_.]{1,40}(?:error|exception): )"""
NO_FILE = (
    r"""(?!(?:%s)[\w.\-]{0,40}\\*["']?: \\*["']?%s)(?!(?:%s)[\w.\-]{0,40}\.(?:py|sh|js|rb|pl|php)\\*["']?: %s)"""
    % (NAMES, FAILED, NAMES, SCRIPT_FAILED)
)
# A run of these characters that has digits, small and capital letters.
MIXED = r"(?={0}*[0-9])(?={0}*[a-z])(?={0}*[A-Z]){0}"


def _card(found: re.Match[str]) -> str:
    """Return the replacement for digits like a credit card number: HIDDEN if the check digit (Luhn) is right."""
    digits = [int(digit) for digit in reversed(found.group()) if digit.isdigit()]
    total = sum(digits[0::2]) + sum(2 * digit - 9 * (digit > 4) for digit in digits[1::2])
    return found.group() if total % 10 else HIDDEN


def _unless_words(found: re.Match[str]) -> str:
    """Return the replacement for a long run of mixed characters: itself if it is words and numbers, as in a path."""
    text = found.group()
    kinds = ["a" if each.islower() else "A" if each.isupper() else "0" if each.isdigit() else "" for each in text]
    # Within a word, a capital letter comes first only.
    turns = sum(bool(one and two) and one + two not in ("aa", "Aa", "AA", "00") for one, two in zip(kinds, kinds[1:]))
    return text if turns <= len(text) / 10 else HIDDEN


# Accounts of systems, as in rabbit@node1.example.org, and names of units, as in postgresql@17-main.service.
ACCOUNTS = ("rabbit", "root", "postgres", "redis", "git")
UNITS = ("service", "socket", "timer", "mount", "target", "slice", "scope")


def _mail(found: re.Match[str]) -> str:
    """Return the replacement for text like an e-mail address."""
    text = found.group()
    account, _at, domain = text.partition("@")
    is_name = account in ACCOUNTS or domain.rpartition(".")[2] in UNITS
    return text if is_name else "%s@%s" % (HIDDEN, HIDDEN)


# The order matters: each rule gets the output of those before it. A group of rules runs if one of its words is in the
# text in lower case, which is rare. NAMED stands for the names of secrets; ALWAYS is for rules that need no word. They
# are compiled when they are needed: compiling all takes 35 ms of CPU time, in each process of a visit.
NAMED: tuple[str, ...] = ()
ALWAYS = None
PROGRAMS = (
    "redis-cli",
    "mysql",
    "mariadb",
    "mongo",
    "sshpass",
    "7z",
    "login",
    "zip",
    "sqlcmd",
    "ldap",
    "openssl",
    "snmp",
    "htpasswd",
    "vault",
    "rabbitmqctl",
    "echo",
    "printf",
)
RULES = (
    (
        ("begin ",),
        (
            # Keys and certificates in PEM, also with the end missing or line breaks escaped.
            (
                r"-----BEGIN ([A-Z0-9 ]+)-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)",
                re.S,
                r"-----BEGIN \1----- " + HIDDEN,
            ),
            (r"(\bBEGIN [A-Z ]{0,30}PRIVATE KEY-----)(?! \*\*\*).*", re.S, r"\1 " + HIDDEN),
        ),
    ),
    (
        ("://", "@"),
        (
            # A user that is a token: its password is empty or x-oauth-basic.
            (r"""(://)[^\s/:@"'<>]{1,200}(?=:(?:x-oauth-basic)?@)""", 0, r"\1" + HIDDEN),
            # scheme://user:password@host, up to the last @ of the word.
            (r"""(\b[a-z][a-z0-9+.\-]{0,20}://[^\s/:"'<>]{0,200}:)[^\s"'<>]{1,500}@""", re.I, r"\1" + HIDDEN + "@"),
            # user:password@host without a scheme, if a port, a path or a bracket follows.
            (
                r"""((?<![\w.\-/:@%])(?://)?[\w.\-]{1,64}:)[^\s:/@"'<>(){}]{1,100}@(?=[\w.\-]{1,100}[:/(])""",
                0,
                r"\1" + HIDDEN + "@",
            ),
            # scheme://user:password cut off before the @, unless the password looks like a port.
            (
                r"""(\b[a-z][a-z0-9+.\-]{0,20}://[^\s/:@"'<>]{0,200}:)(?!\d+\Z)[^\s"'<>@/]{1,500}\Z""",
                re.I,
                r"\1" + HIDDEN,
            ),
            # A long user without a password is a token.
            (r"""(\b[a-z][a-z0-9+.\-]{0,20}://)[^\s/:@"'<>]{20,500}@""", re.I, r"\1" + HIDDEN + "@"),
        ),
    ),
    (
        ("authorization", "cookie", "bearer", "basic", "digest"),
        (
            # HTTP headers. The values of Digest contain quotes.
            (r"""(authorization\\*["']?\s*[:=,]\s*\\*["']?digest\s)[^\r\n]+""", re.I, r"\1" + HIDDEN),
            (
                r"""(authorization\\*["']?\s*[:=,]\s*\\*["']?)((?:basic|bearer|digest|negotiate|token|apikey|aws4-[\w-]+)\s+)?"""
                r"""[^\r\n"'\\]+""",
                re.I,
                r"\1\2" + HIDDEN,
            ),
            (
                r"""(\b(?:set-)?cookie\\*["']?\s*[:=]\s*\\*["']?)(?!\s|%s)[^\r\n"'\\]+""" % FAILED,
                re.I,
                r"\1" + HIDDEN,
            ),
            (r"(\b[Bb](?:earer|EARER) )[\w.~+/\-]{6,}=*", 0, r"\1" + HIDDEN),
            (r"(\b[Bb](?:asic|ASIC) )(?=\S*(?:[0-9=]|[a-z][A-Z]))[A-Za-z0-9+/]{6,}=*", 0, r"\1" + HIDDEN),
            (r"(\b(?:HTTP)?(?:Basic|Digest)Auth\()[^)]+", 0, r"\1" + HIDDEN),
        ),
    ),
    (
        ("password", "failing row", " = '", "insert", "crypt", "pgp_", "hmac", "identified"),
        (
            (r"(\bset\s+password\s+for\s[^=\n]{1,100}=\s*)'(?:[^']|'')*(?:'|$)", re.I, r"\1'" + HIDDEN + "'"),
            # Values of a row and of parameters in messages of PostgreSQL. hide_passwords() does PASSWORD '...'.
            (r"(Failing row contains )\(.*", re.S, r"\1(" + HIDDEN + ")"),
            (r"(\$\d{1,4} = )'(?:[^']|'')*(?:'|$)", 0, r"\1'" + HIDDEN + "'"),
            (
                r"(\binsert\s+into\b[^()]{0,200}\((?=[^()]{0,500}(?:%s))[^()]{0,1000}\)\s*values\s*)\(.*" % NAMES,
                re.I | re.S,
                r"\1(" + HIDDEN + ")",
            ),
            (
                r"(\b(?:crypt|pgp_\w{1,30}|encrypt|decrypt|hmac)\s{0,3}\(\s{0,3})[^)]{1,500}(?:\)|$)",
                re.I,
                r"\1" + HIDDEN + ")",
            ),
            (
                r"""(\bidentified\s+(?:with\s+\S+\s+)?(?:by|as)\s+(?:password\s+)?)('[^']*(?:'|$)|"[^"]*(?:"|$)|\S+)""",
                re.I,
                r"\1'" + HIDDEN + "'",
            ),
        ),
    ),
    (
        NAMED,
        (
            (r"({}\)\s*=\s*)\([^)]*(?:\)|$)".format(NAME), re.I, r"\1(" + HIDDEN + ")"),
            # {"name": "PASSWORD", "value": "..."}, <add key="password" value="..."/>, <password>...</password>
            (
                r"""(\b(?:name|key|id|type)\\*["']?\s*[=:]\s*\\*["']?[\w.\-]{{0,40}}?{}\\*["']?\s*(?:,|\\+n)?\s*\\*["']?value\\*["']?\s*[=:]\s*)"""
                r"""({}|{})""".format(NAME, QUOTED, BARE),
                re.I | re.S,
                r"\1" + HIDDEN,
            ),
            (r"""(<[\w:.\-]{{0,40}}?{}(?:\s[^<>]{{0,100}})?>)[^<]+(?=</|\Z)""".format(NAME), re.I, r"\1" + HIDDEN),
            (
                r"""(<\w{{1,40}}\s[^<>]{{0,100}}?{}["'][^<>]{{0,100}}>)[^<]+(?=</|\Z)""".format(NAME),
                re.I,
                r"\1" + HIDDEN,
            ),
            (
                r"""(\bname=\\*["'][\w.\-]{{0,40}}?{}\\*["'](?:\\+[rn]|\s){{2,16}})\S+""".format(NAME),
                re.I,
                r"\1" + HIDDEN,
            ),
            # password: some words
            (
                r"""(%s(?:passw(?:or)?d|passphrase)\\*["']?\s*:[ \t]+)(?:%s)""" % (NO_FILE, PHRASE),
                re.I,
                r"\1" + HIDDEN,
            ),
            # name=value, name: value, "name": "value", ('name', 'value'), name => value, name%3Dvalue,
            # name("value"), --name value
            (r"""({}\\*["']\s*,\s*)({})(?!\s*:)""".format(NAME, QUOTED), re.I | re.S, r"\1" + HIDDEN),
            (
                r"""({}(?:\[\])?\]?\\*["']?\s*(?:=>|->|\u2192|:=|==?|:|%(?:25)*3[da]|[\u2013\u2014\uff1a\uff1d\uff5e])\s*)"""
                r"""((?:{}){}|{}|{}|{})""".format(NO_FILE + NAME, QUOTED, ADJACENT, BRACKETED, CALL, BARE),
                re.I | re.S,
                r"\1" + HIDDEN,
            ),
            (r"""({}\(\s*)({})""".format(NAME, QUOTED), re.I | re.S, r"\1" + HIDDEN),
            (
                r"""((?<![\w\-])--?[\w\-]{{0,40}}?{}\s+)({}|{})""".format(NAME, QUOTED, BARE),
                re.I | re.S,
                r"\1" + HIDDEN,
            ),
            # password is x, password "x", token x9
            (
                r"(\b(?:passw(?:or)?d|passphrase)\s+(?:is generated )?for\s[^\n]{1,80}?(?::\s+|\s+is\s+))\S+",
                re.I,
                r"\1" + HIDDEN,
            ),
            (
                r"""(\b(?:password|passphrase|secret|token)\s+(?:is|was|of|to|(?:set|changed) to):?\s+)(\S+)""",
                re.I,
                r"\1" + HIDDEN,
            ),
            (
                r"""(\b(?:password|passphrase|secret|token)\s+)("[^"]*(?:"|$)|`[^`]*(?:`|$)|<[^<>\s]{1,100}>|'(?:[^']|'')*(?:'|$))""",
                re.I,
                r"\1" + HIDDEN,
            ),
            (
                r"""(\b(?:password|passphrase|secret|token|(?:api|master|licen[cs]e)[ _\-]?key|"""
                r"""(?:verification|pin)[ _\-]code)\s+)(?=\S*\d)[^\s"'<>]{6,}""",
                re.I,
                r"\1" + HIDDEN,
            ),
        ),
    ),
    (
        ("auth", "setuser", "requirepass", "-u", "--user", "--proxy-user"),
        (
            # Redis
            (
                r"""(\bAUTH["']?(?:\s+\d\))?(?:\s+["']?\w{1,40}["']?(?:\s+\d\))?)?\s+)("[^"]*(?:"|$)|'[^']*(?:'|$)|(?=\S*\d)[^\s"'<>]+)""",
                0,
                r"\1" + HIDDEN,
            ),
            (r"(\bSETUSER\s[^\n]{0,200}?\s[\"']?>)[^\s\"']+", re.I, r"\1" + HIDDEN),
            (r"""(\b(?:requirepass|masterauth)\\*["']?\s+)\S+""", re.I, r"\1" + HIDDEN),
            # Options of one letter: curl -u user:x
            (r"""((?<!\S)(?:-u|--user|--proxy-user)[ =]?["']?[^\s:"'/]{1,64}:)[^\s"']+""", 0, r"\1" + HIDDEN),
        ),
    ),
    (
        PROGRAMS,
        (
            (r"(\bredis-cli\b[^\n|;]{0,200}?\s-a\s{0,3})\S+", 0, r"\1" + HIDDEN),
            (
                r"(\b(?:mysql\w*|mariadb[\w\-]*|mongo(?:sh|dump|restore|export|import)?|sshpass|7za?|"
                r"(?:docker|podman) login)\b[^\n|;]{0,200}?\s-p\s{0,3})\S+",
                0,
                r"\1" + HIDDEN,
            ),
            (r"(\b(?:zip|unzip|sqlcmd)\b[^\n|;]{0,200}?\s-P\s{0,3})\S+", 0, r"\1" + HIDDEN),
            (r"(\bldap\w{1,20}\b[^\n|;]{0,200}?\s-w\s{0,3})\S+", 0, r"\1" + HIDDEN),
            (r"(\bopenssl\b[^\n|;]{0,200}?\s-k\s{0,3})\S+", 0, r"\1" + HIDDEN),
            (r"(\bsnmp\w{1,20}\b[^\n|;]{0,200}?\s-[cAX]\s{0,3})\S+", 0, r"\1" + HIDDEN),
            (r"(\bhtpasswd\s+-\w{0,8}b\w{0,8}\s+\S{1,200}\s+\S{1,200}\s+)\S+", 0, r"\1" + HIDDEN),
            (r"(\bvault login\s+)(?!-)\S+", 0, r"\1" + HIDDEN),
            (
                r"(\brabbitmqctl\b[^\n|;]{0,200}?\s(?:add_user|change_password|authenticate_user)\s+\S{1,200}\s+)\S+",
                0,
                r"\1" + HIDDEN,
            ),
            (
                r"(\b(?:echo|printf)\s)[^\n|]{1,200}"
                r"(?=\|[^\n|]{0,200}?(?:--password-stdin|\bchpasswd\b|\bpasswd --stdin|\bsudo -S))",
                0,
                r"\1" + HIDDEN + " ",
            ),
        ),
    ),
    (
        ALWAYS,
        (
            # Tokens with the known prefix or form of a vendor.
            (r"\beyJ[\w\-]{6,}\.[\w\-]+(?:\.[\w\-]*)?", 0, HIDDEN),
            (r"\b(?:AKIA|ASIA|AGPA|AROA|AIDA)[0-9A-Z]{12,}\b", 0, HIDDEN),
            (
                r"\b(?:gh[pousr]_|github_pat_|glpat-|npm_|pypi-|dop_v1_|hv[sb]\.|xox[abeprs]-|xapp-)[\w\-]{10,}",
                0,
                HIDDEN,
            ),
            (r"\b(?:sk|pk|rk)[_\-](?:live_|test_|ant-|proj-)?[\w\-]{16,}", 0, HIDDEN),
            (r"\bAIza[\w\-]{30,}|\bya29\.[\w\-]{10,}|\bSG\.[\w\-]{10,}\.[\w\-]{10,}", 0, HIDDEN),
            (r"""([?&](?:key|code|auth)=)[^\s&"'<>]{6,}""", re.I, r"\1" + HIDDEN),
            (
                r"(hooks\.slack\.com/services/|discord(?:app)?\.com/api/webhooks/|api\.telegram\.org/bot)[^\s\"']+",
                re.I,
                r"\1" + HIDDEN,
            ),
            (r"\bSCRAM-SHA-\d+\$\S+", 0, HIDDEN),
        ),
    ),
    (
        ("@", "%40"),
        (
            # E-mail addresses.
            (r"[\w.+%\-]{1,64}(?:@|%40)[\w\-]{1,64}(?:\.[\w\-]{1,64})+", 0, _mail),
        ),
    ),
    (
        ALWAYS,
        (
            (
                r"(?<![\w.\-])(?:[4-6]\d{3}(?:([ \-]?)\d{4})(?:\1\d{4}){2}|3[47]\d\d([ \-]?)\d{6}\2\d{5})"
                r"(?![\w\-])",
                0,
                _card,
            ),
            # Anything else that is long and looks random: hexadecimal (not an id in a path of the engine), base64.
            (
                r"(?<!/containers/)(?<!/overlay2/)(?<!/volumes/)(?<![0-9A-Za-z])(?:0x|md5)?[0-9a-fA-F]{32,}(?![0-9A-Za-z])",
                0,
                HIDDEN,
            ),
            (r"(?<![\w+/\-])" + MIXED.format(r"[\w+\-]") + r"{32,}={0,2}", 0, _unless_words),
            (r"(?<![\w+/.\-])" + MIXED.format("[A-Za-z0-9+/]") + r"{40,}={0,2}", 0, _unless_words),
        ),
    ),
)


def hide_passwords(query: Text) -> Text:
    """Return an SQL statement without the literals that follow the word PASSWORD."""
    return None if query is None else PASSWORD.sub(r"\1'***'", query)


@lru_cache(maxsize=None)
def _any_name() -> Pattern[str]:
    return re.compile(NAMES, re.I)


@lru_cache(maxsize=None)
def _compiled(group: int) -> tuple[tuple[Pattern[str], Replacement], ...]:
    return tuple((re.compile(pattern, flags), replacement) for pattern, flags, replacement in RULES[group][1])


def redact(text: Text) -> Text:
    """Return ``text`` without passwords, tokens, keys, e-mail addresses, and words that are long and look random."""
    if text is None:
        return None
    lowered = text.lower()
    named = _any_name().search(text)
    for group, (needs, _rules) in enumerate(RULES):
        if needs is ALWAYS or (named if needs is NAMED else any(word in lowered for word in needs)):
            for pattern, replacement in _compiled(group):
                text = pattern.sub(replacement, text)
    return hide_passwords(text) if named else text


def redact_setting(name: str, value: str | None) -> str | None:
    """Return the value of the variable ``name``, redacted as it is after this name."""
    if value is None:
        return None
    head, shown = name + "=", redact("%s=%s" % (name, value))
    return shown[len(head) :] if shown.startswith(head) else HIDDEN
