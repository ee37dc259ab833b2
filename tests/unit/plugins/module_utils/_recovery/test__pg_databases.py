# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Statements and names for databases that are restored: pure functions."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_archive, _pg_compare, _pg_databases
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_archive import NoArchive, VulnerableClient
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_contents import literal


def contents(**database):
    about = {"encoding": "UTF8", "collate": "C", "ctype": "C", "locale_provider": None, "owner": "o", "acl": []}
    return {"database": {**about, **database}, "sections": {}}


@pytest.mark.parametrize(
    ("database", "words"),
    [
        ({}, "TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"),
        (
            {"locale_provider": "i", "locale": "de", "icu_rules": "&a < b"},
            "LOCALE_PROVIDER icu ICU_LOCALE 'de' ICU_RULES",
        ),
        ({"locale_provider": "b", "locale": "C.UTF-8"}, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"),
    ],
)
def test_a_new_database_has_the_locale_of_the_original(database, words):
    assert words in " ".join(_pg_databases.creation(contents(**database)))


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ("=Tc/owner", ("", "Tc", "owner")),
        ("app=CTc/owner", ("app", "CTc", "owner")),
        ('"odd=/""name"=c*/"o w"', ('odd=/"name', "c*", "o w")),
    ],
)
def test_an_entry_of_an_access_list(entry, parts):
    assert _pg_databases.split_entry(entry) == parts


def test_properties_are_quoted():
    given = contents(owner='o"x', acl=['r=c*/"o""x"'])
    given["sections"]["settings"] = {"": ['search_path=lib, "$user"', "app.key=it's, one"], "r": ["work_mem=5MB"]}
    statements = _pg_databases.properties("d", given)
    assert 'ALTER DATABASE "d" OWNER TO "o""x"' in statements
    assert 'SET ROLE "o""x"; GRANT CONNECT ON DATABASE "d" TO "r" WITH GRANT OPTION; RESET ROLE' in statements
    assert "ALTER DATABASE \"d\" SET \"search_path\" TO 'lib', '$user'" in statements
    assert 'ALTER DATABASE "d" SET "app"."key" TO \'it\'\'s, one\'' in statements
    assert 'ALTER ROLE "r" IN DATABASE "d" SET "work_mem" TO \'5MB\'' in statements


def test_a_constant_of_sql():
    assert literal("it's") == "'it''s'"
    assert literal("a\\b") == "E'a\\\\b'"


def test_a_name_that_is_put_aside_fits_and_is_recognized():
    name = "ä" * 31
    dated = _pg_databases.dated(name, _pg_databases.BEFORE, [], now=0)
    assert len(dated.encode()) <= _pg_databases.NAME_BYTES
    assert dated.endswith("_before_19700101T000000Z")
    assert _pg_databases.is_dated(dated, name)
    assert _pg_databases.dated(name, _pg_databases.BEFORE, [dated], now=0) != dated
    assert not _pg_databases.is_dated(dated, "other")
    assert not _pg_databases.is_dated(name, name)


@pytest.mark.parametrize(
    ("version", "fixed"),
    [(150019, "15.20"), (150020, None), (170012, None), (180006, "18.7"), (190000, None), (130022, "14.25")],
)
def test_releases_that_run_code_of_a_crafted_archive(version, fixed):
    assert _pg_archive.vulnerable(version) == fixed
    if fixed:
        with pytest.raises(VulnerableClient, match=_pg_archive.CVE):
            _pg_archive.require_fixed(version, "here", [])
    _pg_archive.require_fixed(version, "here", [_pg_archive.CVE])


@pytest.mark.parametrize(
    ("paths", "encryption", "where"),
    [
        (["dump/toc.dat", "dump/1.dat", "globals.sql"], None, "dump"),
        (["dump/toc.dat.age", "globals.sql.age"], "age", "dump"),
        (["dump.gpg"], "gpg", "dump"),
        (["dump"], None, "dump"),
    ],
)
def test_where_the_archive_is(paths, encryption, where):
    manifest = {"files": [{"path": path} for path in paths], "encryption": encryption}
    assert _pg_archive.location(manifest) == where
    with pytest.raises(NoArchive):
        _pg_archive.location({"files": [{"path": "toc.dat"}], "encryption": None})


def sequence(last, called=True, until=None, cycles=False):
    return {"last_value": last, "is_called": called, "until": until, "options": [0, 0, 0, 0, 0, cycles]}


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [
        (sequence(5), sequence(5), True),
        (sequence(5), sequence(6), False),
        (sequence(5, until=9), sequence(7), True),
        (sequence(5, until=9), sequence(10), False),
        (sequence(5, until=9), sequence(4), False),
        (sequence(-5, until=-9), sequence(-7), True),
        (sequence(1, called=False), sequence(1), False),
        (sequence(1, called=False, until=1), sequence(1), True),
        (sequence(9, until=2, cycles=True), sequence(10, cycles=True), True),
    ],
)
def test_a_sequence_may_have_the_values_of_the_time_of_the_dump(expected, found, same):
    assert _pg_compare._same_sequence(expected, found) is same


def test_the_privilege_of_a_later_version_is_not_a_difference():
    assert _pg_compare._entry("app=arwdDxtm/owner") == "app=arwdDxt/owner"
    assert _pg_compare._entry('"m=x"=rm*/owner') == '"m=x"=r/owner'
