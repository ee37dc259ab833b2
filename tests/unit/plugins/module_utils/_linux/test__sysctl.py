# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which file sets a kernel parameter at boot."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _sysctl

KEY = "fs.inotify.max_user_watches"
OTHER = "fs.inotify.max_user_instances"


@pytest.fixture
def root(tmp_path):
    """Return a function that writes files below a root and returns the configuration read from them."""

    def make(files, reader=_sysctl.PROCPS, instead=None):
        for name, text in files.items():
            path = tmp_path / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return _sysctl.read([KEY, OTHER], str(tmp_path), reader, instead)

    return make


def winner(configuration, key=KEY):
    found = configuration.winner(key)
    return found and (found.file, found.line, found.value)


def test_nothing_is_set(root):
    assert winner(root({})) is None


def test_the_last_name_wins_in_any_directory(root):
    found = root(
        {
            "/etc/sysctl.d/10-first.conf": KEY + " = 1\n",
            "/usr/lib/sysctl.d/90-last.conf": KEY + " = 3\n",
            "/run/sysctl.d/50-middle.conf": KEY + " = 2\n",
        }
    )
    assert winner(found) == ("/usr/lib/sysctl.d/90-last.conf", 1, 3)
    assert [setting.value for setting in found.settings(KEY)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("first", "masked"),
    [
        ("/etc/sysctl.d", "/run/sysctl.d"),
        ("/run/sysctl.d", "/usr/local/lib/sysctl.d"),
        ("/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"),
        ("/usr/lib/sysctl.d", "/lib/sysctl.d"),
    ],
)
def test_a_file_masks_files_of_the_same_name_in_later_directories(root, first, masked):
    found = root({first + "/50-a.conf": KEY + "=1\n", masked + "/50-a.conf": KEY + "=2\n"})
    assert winner(found) == (first + "/50-a.conf", 1, 1)


def test_a_link_to_dev_null_masks(root, tmp_path):
    (tmp_path / "etc/sysctl.d").mkdir(parents=True)
    (tmp_path / "etc/sysctl.d/50-a.conf").symlink_to("/dev/null")
    assert winner(root({"/usr/lib/sysctl.d/50-a.conf": KEY + "=2\n"})) is None


def test_a_dangling_link_masks_and_is_no_error(root, tmp_path):
    (tmp_path / "etc/sysctl.d").mkdir(parents=True)
    (tmp_path / "etc/sysctl.d/50-a.conf").symlink_to("nowhere")
    found = root({"/usr/lib/sysctl.d/50-a.conf": KEY + "=2\n"})
    assert winner(found) is None
    assert found.unreadable == []


def test_only_procps_reads_sysctl_conf_after_all_other_files(root):
    files = {"/etc/sysctl.conf": KEY + "=1\n", "/etc/sysctl.d/99-z.conf": KEY + "=2\n"}
    assert winner(root(files)) == ("/etc/sysctl.conf", 1, 1)
    assert winner(root(files, _sysctl.SYSTEMD)) == ("/etc/sysctl.d/99-z.conf", 1, 2)


def test_systemd_reads_sysctl_conf_through_a_link(root, tmp_path):
    (tmp_path / "etc/sysctl.d").mkdir(parents=True)
    (tmp_path / "etc/sysctl.d/99-sysctl.conf").symlink_to("../sysctl.conf")
    found = root({"/etc/sysctl.conf": KEY + "=7\n"}, _sysctl.SYSTEMD)
    assert winner(found) == ("/etc/sysctl.d/99-sysctl.conf", 1, 7)


def test_files_without_the_suffix_are_not_read(root):
    assert winner(root({"/etc/sysctl.d/README": KEY + "=1\n", "/etc/sysctl.d/a.conf.bak": KEY + "=1\n"})) is None


@pytest.mark.parametrize(
    "line",
    [
        "fs.inotify.max_user_watches=5",
        "fs.inotify.max_user_watches = 5",
        "  fs/inotify/max_user_watches\t=\t5  ",
        "-fs.inotify.max_user_watches = 5",
        "fs.inotify.max_user_watches = 5\r",
    ],
)
def test_spellings_of_an_assignment(root, line):
    assert winner(root({"/etc/sysctl.d/a.conf": "# c\n; c\n\n" + line + "\n"})) == ("/etc/sysctl.d/a.conf", 4, 5)


def test_the_last_line_wins(root):
    assert winner(root({"/etc/sysctl.d/a.conf": KEY + "=5\n" + KEY + "=4\n"}))[1:] == (2, 4)


def test_a_name_wins_over_a_pattern(root):
    files = {"/etc/sysctl.d/a.conf": KEY + "=5\n", "/etc/sysctl.d/b.conf": "fs.inotify.* = 9\n"}
    found = root(files)
    assert winner(found)[2] == 5
    assert winner(found, OTHER) == ("/etc/sysctl.d/b.conf", 1, 9)


def test_a_pattern_stops_at_a_separator(root):
    assert winner(root({"/etc/sysctl.d/b.conf": "fs.* = 9\n"})) is None


def test_an_exclusion_exempts_a_key_from_patterns(root):
    found = root({"/etc/sysctl.d/b.conf": "fs.inotify.* = 9\n-fs.inotify.max_user_instances\n"})
    assert winner(found, OTHER) is None
    assert winner(found)[2] == 9


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("fs.inotify.max_user_watches 5", "it is not an assignment"),
        ("= 5", "it does not name a kernel parameter"),
        ("sysctl -w fs.inotify.max_user_watches=5", "it does not name a kernel parameter"),
        ("fs.inotify.max_user_watches = many", "the value is not a whole number"),
        ("fs.inotify.max_user_watches = 5 # more", "the value is not a whole number"),
    ],
)
def test_broken_lines_are_listed_and_the_rest_is_read(root, line, reason):
    found = root({"/etc/sysctl.d/a.conf": "# c\n%s\n%s = 6\n" % (line, OTHER)})
    assert [(entry["file"], entry["line"], entry["reason"]) for entry in found.broken] == [
        ("/etc/sysctl.d/a.conf", 2, reason)
    ]
    assert winner(found, OTHER)[2] == 6


def test_bytes_that_are_not_utf8_are_accepted(root):
    found = root({"/etc/sysctl.d/a.conf": b"# caf\xe9\n" + KEY.encode() + b" = 6\n"})
    assert winner(found)[2] == 6
    assert found.broken == []


def test_a_directory_in_place_of_a_file_is_unreadable(root, tmp_path):
    (tmp_path / "etc/sysctl.d/a.conf").mkdir(parents=True)
    assert [entry["file"] for entry in root({}).unreadable] == ["/etc/sysctl.d/a.conf"]


def test_a_file_that_is_not_written_yet_is_read_in_order(root):
    files = {"/etc/sysctl.d/10-a.conf": KEY + "=1\n", "/etc/sysctl.d/90-z.conf": KEY + "=9\n"}
    found = root(files, instead={"/etc/sysctl.d/60-ours.conf": KEY + "=6\n"})
    assert [setting.value for setting in found.settings(KEY)] == [1, 6, 9]


def test_set_values_keeps_other_lines():
    text = "# mine\nvm.swappiness = 1\n" + KEY + "=1\nfs/inotify/max_user_watches = 2\n"
    assert _sysctl.set_values(text, {KEY: 7, OTHER: 8}, "# header") == (
        "# mine\nvm.swappiness = 1\n%s = 7\n%s = 8\n" % (KEY, OTHER)
    )


def test_set_values_starts_a_new_file_with_a_header():
    assert _sysctl.set_values("", {KEY: 7}, "# header") == "# header\n%s = 7\n" % KEY


def test_the_program_that_reads_the_files_at_boot(tmp_path):
    assert _sysctl.boot_reader(str(tmp_path)) == _sysctl.PROCPS
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert _sysctl.boot_reader(str(tmp_path)) == _sysctl.SYSTEMD


@pytest.mark.parametrize(
    ("text", "number"),
    [(" 5 ", 5), ("0x10", 16), ("010", 8), ("0", 0), ("-1", -1), ("5_000", None), ("08", None), ("5 # more", None)],
)
def test_numbers_as_the_kernel_reads_them(text, number):
    assert _sysctl.whole_number(text) == number


def test_for_systemd_an_exclusion_withdraws_earlier_assignments(root):
    files = {"/etc/sysctl.d/a.conf": KEY + "=5\n-" + KEY + "\n"}
    assert winner(root(files, _sysctl.SYSTEMD)) is None
    assert winner(root(files))[2] == 5
    files["/etc/sysctl.d/b.conf"] = KEY + "=6\n"
    assert winner(root(files, _sysctl.SYSTEMD)) == ("/etc/sysctl.d/b.conf", 1, 6)


def test_settings_that_no_boot_reads(root, tmp_path):
    files = {"/etc/sysctl.conf": "\n" + KEY + "=5\n", "/etc/sysctl.d/90-watches": KEY + "=6\n"}
    root({**files, "/etc/sysctl.d/a.conf": KEY + "=1\n"})

    def unread(reader):
        return [(found.file, found.line, found.value) for found in _sysctl.unread([KEY], str(tmp_path), reader)]

    assert unread(_sysctl.SYSTEMD) == [("/etc/sysctl.d/90-watches", 1, 6), ("/etc/sysctl.conf", 2, 5)]
    assert unread(_sysctl.PROCPS) == [("/etc/sysctl.d/90-watches", 1, 6)]
    (tmp_path / "etc/sysctl.d/99-sysctl.conf").symlink_to("../sysctl.conf")
    assert unread(_sysctl.SYSTEMD) == [("/etc/sysctl.d/90-watches", 1, 6)]


def test_the_file_to_add_is_read_after_the_file(root):
    later = _sysctl.file_read_after("/usr/lib/sysctl.d/70-vendor.conf")
    files = {"/usr/lib/sysctl.d/70-vendor.conf": KEY + "=5\n", later: KEY + "=6\n"}
    assert winner(root(files)) == (later, 1, 6)
