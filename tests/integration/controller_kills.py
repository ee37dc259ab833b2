# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kills ansible-playbook with SIGKILL at the tasks of playbooks for backups, and shows what is left.

For a few points in the tests, and for all of them in tests/bench/bench_controller_kills.py.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _operations
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from tests.integration.playbooks import LOCAL, ROOT, inventory, playbook_command
from tests.integration.postgresql import Database
from tests.integration.recovery_databases import drop, rich
from tests.integration.stacks import needs, running
from tests.lab.engine import docker
from tests.lab.shell import wait_until
from tests.lab.throwaway import Project, healthcheck, project, wait_for

ENVIRONMENT = {
    "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "playbooks" / "collections"),
    "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).with_name("callbacks")),
    "ANSIBLE_CALLBACKS_ENABLED": "kill_controller",
    "ANSIBLE_NOCOLOR": "1",
}


class Run(NamedTuple):
    """``code`` is negative if the controller was killed. ``tasks`` are the titles of those that began."""

    code: int
    tasks: list[str]
    output: str


class Rig:
    """A database with one of everything, two services of a compose project that use it, and a host with both."""

    def __init__(self, pg: Database, stack: Project, name: str, folder: Path) -> None:
        self.pg, self.stack, self.name = pg, stack, name
        self.folder = folder
        self.state = folder / "state"
        settings = {
            **pg.settings(role="superuser", login_db=name),
            "recovery_directory": str(folder / "backups"),
            "recovery_products": ["postgresql"],
            "recovery_accept_cve": ["CVE-2026-116314"],
            "tracktion_state_dir": str(self.state),
            "tracktion_compose_project": stack.name,
            "tracktion_confirm": ["recovery.restore:%s" % name],
        }
        self.services = {"recovery_services": ["api", "web"]}
        self.hosts = inventory(folder / "hosts.yml", {"local": LOCAL}, **settings)
        self.old = self.oid()
        # Of the backup with 500 rows.
        self.stamp = ""

    def run(self, playbook: str, kill: str = "", seconds: float = 0.0, **extra: Any) -> Run:
        """Run a playbook; kill its controller ``seconds`` after the task ``kill`` has begun, and wait for its job."""
        environment = {**os.environ, **ENVIRONMENT, "LAB_KILL": kill, "LAB_KILL_SECONDS": str(seconds)}
        with tempfile.NamedTemporaryFile("r", encoding="utf-8") as tasks, tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                playbook_command(playbook, self.hosts, self.folder, extra=extra),
                cwd=ROOT,
                env={**environment, "LAB_TASKS": tasks.name},
                stdin=subprocess.DEVNULL,
                # A job of the host can outlive the controller: no pipe, whose end would come with that of the job.
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=300,
                check=False,
            )
            output.seek(0)
            run = Run(done.returncode, tasks.read().splitlines(), output.read())
        if kill:
            # What a lease holds is between two modules.
            wait_until(
                lambda: all(each["until"] for each in _operations.read(str(self.state))[0]), "the job to end", 60
            )
        return run

    def oid(self) -> str:
        return self.pg.psql("select oid from pg_database where datname = '%s'" % self.name)

    def live(self) -> str:
        """Return which database has the name: the old one or a new one, which are known by their number of rows."""
        word = "old" if self.oid() == self.old else "new"
        with contextlib.closing(self.pg.postgres(superuser=True, dbname=self.name)) as connection:
            cursor = connection.cursor()
            cursor.execute("select count(*) from lib.tracks")
            rows = cursor.fetchone()[0]
        return word if rows == (400 if word == "old" else 500) else "%s with %d rows" % (word, rows)

    def running(self) -> list[str]:
        return sorted(running(self.stack))

    def left(self) -> list[str]:
        """Return what is left of interrupted runs: databases, records, incomplete backups."""
        found = self.pg.psql("select datname from pg_database where datname like 'tracktion_ops_%'").split()
        records = [str(each) for part in _operations.read(str(self.state)) for each in part]
        files = [str(path) for path in (self.folder / "backups").rglob(".*") if path.is_dir()]
        return found + records + files

    def reset(self) -> None:
        """Give the name back to the old database, start the services, and forget what was interrupted."""
        if self.oid() != self.old:
            aside = self.pg.psql("select datname from pg_database where oid = %s" % self.old)
            drop(self.pg, self.name)
            self.pg.psql('alter database "%s" rename to "%s"' % (aside, self.name))
        for name in self.others():
            drop(self.pg, name)
        docker("start", *self.stack.containers)
        (self.state / _operations.RECORDS).unlink(missing_ok=True)

    def others(self) -> list[str]:
        """Return the databases that restores have made or put aside."""
        like = "select datname from pg_database where datname like '%s\\_%%' or datname like 'tracktion\\_ops\\_%%'"
        return self.pg.psql(like % self.name).split()


@contextlib.contextmanager
def rig(pg: Database, name: str, folder: Path) -> Iterator[Rig]:
    """Yield a Rig with a backup of 500 rows and a live database of 400 rows."""
    with rich(pg, name), project("kills") as stack:
        api = stack.run("api", options=healthcheck("true"))
        web = stack.run("web", options=healthcheck("true"), labels=needs("api:service_healthy:false"))
        for container in (api, web):
            wait_for(container, "healthy", lambda state: state["Health"]["Status"] == "healthy")
        found = Rig(pg, stack, name, folder)
        done = found.run("backup")
        assert done.code == 0, done.output
        found.stamp = Store(str(folder / "backups")).list("postgresql", name)[0].stamp
        pg.server.exec("psql", "-qXU", "postgres", "-d", name, "-c", "delete from lib.tracks where id > 400")
        try:
            yield found
        finally:
            for other in found.others():
                drop(pg, other)
