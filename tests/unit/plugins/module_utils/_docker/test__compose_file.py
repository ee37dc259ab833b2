# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Services of compose files."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _compose_file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512m", 512 << 20),
        ("1.5gb", 3 << 29),
        ("4G", 4 << 30),
        ("100", 100),
        ("64MiB", 64 << 20),
        ("much", None),
        (None, None),
    ],
)
def test_a_size_is_bytes(text, expected):
    assert _compose_file.size(text) == expected


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        ("./data:/data", "/srv/app/data"),
        ("../music:/music:ro", "/srv/music"),
        ("/etc/app:/etc/app", "/etc/app"),
        # The shell that runs compose decides these.
        ("${NONE:-/srv}:/data", None),
        ("~/data:/data", None),
        ("named:/data", None),
        ("/anonymous", None),
        ({"type": "bind", "source": "./data", "target": "/data"}, "/srv/app/data"),
        ({"type": "volume", "source": "named", "target": "/data"}, None),
    ],
)
def test_only_bind_mounts_have_paths(volume, expected):
    assert _compose_file.bind(volume, "/srv/app") == expected


def test_an_env_file_is_read(tmp_path):
    path = tmp_path / ".env"
    path.write_text("# comment\nA=1\nexport B='two words'\nC=\"3\"\nD=4 # four\nE=\n\nnonsense\n")
    assert _compose_file.dotenv(str(path)) == {"A": "1", "B": "two words", "C": "3", "D": "4", "E": ""}
    assert _compose_file.dotenv(str(tmp_path / "none")) == {}


def test_later_files_win_and_add_volumes(tmp_path):
    (tmp_path / "one.yaml").write_text(
        "x-common: &common {mem_limit: 1m}\n"
        "services:\n  web: {<<: *common, image: a, volumes: [./one:/one]}\n  tool: {image: t, profiles: [x]}\n  none:\n"
    )
    (tmp_path / "two.yaml").write_text(
        "services:\n  web:\n    image: b\n    volumes: [./two:/two]\n"
        "  big: {image: c, deploy: {resources: {limits: {memory: 2m}}}}\n  more: {extends: {service: web}}\n"
        "  idle: {image: d, deploy: {replicas: 0}}\n  unsure: {image: d, scale: '${N:-1}'}\n"
    )
    files = [str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml")]
    found = _compose_file.load(files, str(tmp_path)).services
    assert found["web"]["image"] == "b"
    assert found["web"]["memory"] == "1m"
    assert found["web"]["paths"] == [str(tmp_path / "one"), str(tmp_path / "two")]
    assert found["big"]["memory"] == "2m"
    assert (found["more"]["memory"], found["more"]["partly"]) == (None, True)
    assert {name for name, service in found.items() if not service["expected"]} == {"tool", "idle", "unsure"}


def test_a_job_for_which_others_wait_need_not_have_a_container(tmp_path):
    condition = "{condition: service_completed_successfully}"
    (tmp_path / "compose.yaml").write_text(
        "services:\n  migrate: {image: a}\n  db: {image: b}\n  cron: {image: c, depends_on: [db]}\n"
        "  web: {image: d, depends_on: {migrate: %s, gone: %s, db: {condition: service_healthy}}}\n"
        % (condition, condition)
    )
    found = _compose_file.load([str(tmp_path / "compose.yaml")], str(tmp_path)).services
    assert {name for name, service in found.items() if not service["expected"]} == {"migrate"}


def test_files_are_merged_as_compose_does(tmp_path):
    (tmp_path / "one.yaml").write_text(
        "services:\n  test:\n    environment: [A=1, B=2]\n    ports: [22:22]\n    command: [a]\n    networks: [x]\n"
        "    image: one\n  command: {image: c}\n  gone: {image: g}\n"
    )
    (tmp_path / "two.yaml").write_text(
        "services:\n  test:\n    environment: {A: !reset null, B: yes, C: true, D: 1.5}\n    ports: !override [80:80]\n"
        "    command: [b, c]\n    networks: {y: {aliases: [z]}}\n    image: !override two\n  gone: !reset null\n"
    )
    found = _compose_file.load([str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml")], str(tmp_path)).services
    assert set(found) == {"test", "command"}
    layer = found["test"]["layer"]
    texts = {name: _compose_file.text_of(value) for name, value in layer["environment"].items()}
    # Compose writes the number in another way.
    assert texts == {"B": "yes", "C": "true", "D": None}
    assert (layer["ports"], layer["command"], layer["image"]) == (["80:80"], ["b", "c"], "two")
    assert layer["networks"] == {"x": None, "y": {"aliases": ["z"]}}


@pytest.mark.parametrize(
    "content",
    [
        "services: [",
        "[]",
        "services: []",
        "services: {web: {volumes: 1}}",
        "services: {web: {deploy: 1}}",
        # The first format of compose.
        "web: {image: a}",
        "services: !!python/object/apply:os.getcwd []",
    ],
)
def test_an_invalid_compose_file_is_unreadable(tmp_path, content):
    path = tmp_path / "compose.yaml"
    path.write_text(content)
    with pytest.raises(_compose_file.Unreadable):
        _compose_file.load([str(path)], str(tmp_path))


def test_the_error_does_not_quote_the_line(tmp_path):
    path = tmp_path / "compose.yaml"
    path.write_text("services:\n  web:\n    environment: {PASSWORD: 'hunter2\n")
    with pytest.raises(_compose_file.Unreadable) as caught:
        _compose_file.load([str(path)], str(tmp_path))
    assert "compose.yaml, line 4: found unexpected end of stream" in str(caught.value)
    assert "hunter2" not in str(caught.value)
