# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_health_checks

FATAL = "2026-11-29 06:24:17.857 UTC [148] FATAL:  "
ROOT = FATAL + 'role "root" does not exist'
OF_IMAGE = ("POSTGRES_USER=tracktion_user", "POSTGRES_PASSWORD=x", "POSTGRES_DB=tracktion")


def health_check(test, environment=OF_IMAGE, user="", labels=None):
    settings = {
        "Healthcheck": {"Test": test, "Interval": 5000000000},
        "Env": list(environment),
        "User": user,
        "Labels": labels or {},
    }
    return _log_health_checks.of_container({"Name": "/music-postgres-1", "Config": settings})


@pytest.mark.parametrize(
    ("test", "line"),
    [
        (["CMD", "pg_isready"], ROOT),
        (["CMD-SHELL", "pg_isready || exit 1"], ROOT),
        (["CMD-SHELL", "test -e /x && /usr/bin/pg_isready -q -t 3"], ROOT),
        (["CMD-SHELL", "pg_isready -U $POSTGRES_USER"], FATAL + 'database "tracktion_user" does not exist'),
        (
            ["CMD-SHELL", "pg_isready -U ${POSTGRES_USER:-x} -h localhost"],
            FATAL + 'database "tracktion_user" does not exist',
        ),
        (["CMD-SHELL", "psql -c 'select 1'"], ROOT),
        (["CMD-SHELL", 'pg_isready -U "$UNSET"'], ROOT),
        # lc_messages of German, French and Spanish
        (["CMD", "pg_isready"], FATAL + "Rolle \u00bbroot\u00ab existiert nicht"),
        (["CMD", "pg_isready"], FATAL + "le r\u00f4le \u00ab root \u00bb n'existe pas"),
        (["CMD", "pg_isready"], FATAL + "no existe el rol \u00abroot\u00bb"),
    ],
)
def test_a_health_check_explains_its_errors(test, line):
    found = health_check(test)
    assert found.pattern.search(line)
    assert (found.right_user, found.right_database, found.seconds) == ("tracktion_user", "tracktion", 5)


@pytest.mark.parametrize(
    "test",
    [
        # Role and database are given: if they are missing, that is a fault.
        ["CMD-SHELL", "pg_isready -U $POSTGRES_USER -d $POSTGRES_DB"],
        ["CMD", "pg_isready", "--username=a", "--dbname=b"],
        ["CMD-SHELL", "pg_isready -d 'user=a dbname=b'"],
        ["CMD-SHELL", "pg_isready -d postgresql://a:secret@localhost/b"],
        # Not known.
        ["CMD-SHELL", "su postgres -c pg_isready"],
        ["CMD-SHELL", "curl -f http://localhost/"],
        ["CMD-SHELL", "pg_isready 'x"],
        ["NONE"],
        [],
    ],
)
def test_other_health_checks_explain_nothing(test):
    assert health_check(test) is None


def test_a_role_that_is_given_is_not_explained():
    found = health_check(["CMD-SHELL", "pg_isready -U app"])
    assert not found.pattern.search(FATAL + 'role "app" does not exist')
    assert found.pattern.search(FATAL + 'database "app" does not exist')
    assert not found.pattern.search(FATAL + 'database "application" does not exist')
    # PGUSER and PGDATABASE are given, too; the account of the container is the role otherwise.
    assert health_check(["CMD", "pg_isready"], (*OF_IMAGE, "PGUSER=a", "PGDATABASE=b")) is None
    assert health_check(["CMD", "pg_isready"], user="postgres").pattern.search(FATAL + 'role "postgres" does not exist')
    assert health_check(["CMD", "pg_isready"], user="1001") is None


def test_secrets_are_not_returned():
    found = health_check(["CMD-SHELL", "psql postgresql://a:s3cr3t@localhost"])
    assert "s3cr3t" not in str(found.as_result())


def test_a_check_explains_no_more_errors_than_it_can_cause():
    allowance = _log_health_checks.Allowance(health_check(["CMD", "pg_isready"]))
    assert all(allowance.explains(ROOT, 1000 + 5 * number) for number in range(50))
    # A service that connects each second as root.
    allowance = _log_health_checks.Allowance(health_check(["CMD", "pg_isready"]))
    explained = [allowance.explains(ROOT, 1000 + number) for number in range(100)]
    assert sum(explained) == 40
    assert not allowance.explains(ROOT, None)


def test_how_often_a_check_runs():
    assert _log_health_checks.interval({}) == 30
    assert _log_health_checks.interval({"Interval": 10000000000, "StartInterval": 0}) == 10
    assert _log_health_checks.interval({"Interval": 10000000000, "StartInterval": 2000000000}) == 2


def test_where_the_check_is_configured(tmp_path):
    path = tmp_path / "compose.yaml"
    path.write_text(
        "services:\n"
        "  other:\n"
        "    healthcheck: {test: pg_isready -h db}\n"
        "  db:\n"
        "    image: postgres\n"
        "    healthcheck:\n"
        "      # pg_isready is enough\n"
        "      test: pg_isready\n"
        "  last:\n"
        "    healthcheck: {test: pg_isready -h db}\n"
    )
    labels = {"com.docker.compose.service": "db", "com.docker.compose.project.config_files": "/none.yml,%s" % path}
    found = health_check(["CMD-SHELL", "pg_isready"], labels=labels)
    assert (found.file, found.line) == (str(path), 8)
    assert health_check(["CMD-SHELL", "pg_isready"]).line is None


def test_whose_log_has_the_errors():
    own = health_check(["CMD", "pg_isready"])
    assert _log_health_checks.applies(own, "music-postgres-1", "postgres")
    assert not _log_health_checks.applies(own, "other-postgres-1", "postgres")
    remote = health_check(["CMD", "pg_isready", "-h", "postgres"])
    assert _log_health_checks.applies(remote, "music-postgres-1", "postgres")
    assert not _log_health_checks.applies(remote, "music-redis-1", "redis")
