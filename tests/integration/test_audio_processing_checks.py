# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each check of audio processing fires on its fault and stays quiet without it: real Essentia in containers."""

from __future__ import annotations

import os
import time

import pytest

from tests.integration.areas import diagnose, fired
from tests.integration.audio_services import SERVICE, UID, start, tone, write_detectors, write_faulty
from tests.integration.inotify_faults import OTHER_UID, become
from tests.integration.remedies import carry_out
from tests.lab.engine import docker
from tests.lab.shell import wait_until
from tests.lab.throwaway import project
from tests.rights import audio_processing as rights

AREA = "audio_processing"
RIGHT = {
    "audio_processing_bpm_call": "detectors.Right.detect_bpm",
    "audio_processing_bpm_result": {"bpm": "tempo", "confidence": "sure"},
    "audio_processing_key_call": "detectors.Right.detect_key",
}
WRONG = {
    "audio_processing_bpm_call": "detectors.Miscalibrated.detect_bpm",
    "audio_processing_key_call": "detectors.Miscalibrated.detect_key",
    "audio_processing_confidence_limit": 0.8,
    "audio_processing_formats": ["wav"],
}


class Service:
    """A container of the audio service, its library and how to diagnose it."""

    def __init__(self, folder, services):
        self.music = folder / "music"
        self.music.mkdir()
        self.detectors = write_detectors(folder / "detectors")
        self.services = services
        self.container = None

    def start(self, *options, command=()):
        self.container = start(self.services, self.music, self.detectors, *options, command=command)
        return self

    def diagnose(self, before=None, **settings):
        known = {
            "tracktion_compose_project": self.services.name,
            "audio_processing_service": SERVICE,
            "audio_processing_directories": ["/music"],
        }
        named = {"audio_processing_" + name: value for name, value in settings.items() if not name.startswith(AREA)}
        given = {name: value for name, value in settings.items() if name.startswith(AREA)}
        return diagnose(AREA, {**known, **named, **given}, before=before)


def found(findings):
    """Return the names of the checks that are not unknown, by status."""
    names = {}
    for check, entries in findings.items():
        for entry in entries:
            if entry["status"] != "unknown":
                names.setdefault(entry["status"], set()).add(check.partition(".")[2])
    return names


@pytest.fixture
def service(tmp_path):
    tmp_path.chmod(0o755)
    with project("audio") as services:
        yield Service(tmp_path, services)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A service without a fault, which several tests share."""
    folder = tmp_path_factory.mktemp("audio")
    folder.chmod(0o755)
    with project("audio") as services:
        shared = Service(folder, services)
        tone(shared.music / "good.wav")
        yield shared.start()


def test_a_healthy_service_is_quiet(good):
    threshold = {"name": "threshold", "path": "detectors.get_config().bpm.confidence_threshold", "expected": "0.7"}
    path = {"name": "path", "environment": "PYTHONPATH", "expected": "/audio-library:/detectors"}
    files = ["/music/good.wav", str(good.music / "good.wav")]
    findings = good.diagnose(deep=True, files=files, settings=[threshold, path], **RIGHT)
    # What was asked for is shown.
    assert found(findings) == {"info": {"file_decoded"}}, findings
    decoded = fired(findings, "audio_processing.file_decoded")
    assert [each["object"] for each in decoded] == files
    assert "(wav, codec pcm, 44100 Hz) states 2.0 s, and 2.0 s are decoded" in decoded[0]["summary"]
    assert good.diagnose() == {}


def test_a_miscalibrated_detector_and_its_last_result(good, tmp_path):
    state = tmp_path / "state" / "audio.json"
    began = time.monotonic()
    findings = good.diagnose(state_file=str(state), **WRONG)
    first = time.monotonic() - began
    expected = {
        "critical": {"tempo_wrong", "key_wrong"},
        "warning": {"low_confidence", "confidence_limit_high"},
        "info": {"silence_has_tempo"},
    }
    assert found(findings) == expected, findings
    # 90 and 140 beats per minute give 187 and 287, near no octave.
    wrong = fired(findings, "audio_processing.tempo_wrong")
    assert ["gives 186.99" in wrong[0]["summary"], "gives 286.8" in wrong[1]["summary"]] == [True, True], wrong
    assert "C minor" in fired(findings, "audio_processing.key_wrong")[0]["summary"]
    # Another visit uses the result in the file.
    written = state.stat().st_mtime_ns
    assert os.stat(state).st_mode & 0o777 == 0o600
    began = time.monotonic()
    assert found(good.diagnose(state_file=str(state), **WRONG)) == expected
    assert (state.stat().st_mtime_ns, time.monotonic() - began < first) == (written, True)
    # A link is not followed: the result is reported, and not kept.
    target = tmp_path / "target"
    target.write_text("kept")
    state.unlink()
    state.symlink_to(target)
    findings = good.diagnose(state_file=str(state), **WRONG)
    assert "symbolic link" in fired(findings, "audio_processing.result_not_kept", "warning")[0]["summary"]
    assert len(found(findings)["critical"]) == 2
    assert target.read_text() == "kept"


def test_detectors_that_crash_or_halve_and_a_format_without_decoder(good):
    crashing = {
        "audio_processing_formats": ["wav", "m4a"],
        "audio_processing_bpm_call": "detectors.Crashing.detect_bpm",
        "audio_processing_key_call": "detectors.Crashing.detect_key",
        "audio_processing_load_call": "detectors.WithoutMp4.load",
    }
    findings = good.diagnose(deep=True, **crashing)
    assert found(findings) == {"critical": {"tempo_wrong", "key_wrong"}, "warning": {"format_not_decoded"}}, findings
    assert "SIGSEGV" in fired(findings, "audio_processing.tempo_wrong")[0]["summary"]
    assert "ValueError: no key" in fired(findings, "audio_processing.key_wrong")[0]["summary"]
    assert [each["object"] for each in fired(findings, "audio_processing.format_not_decoded")] == ["m4a"]
    halved = {**RIGHT, "audio_processing_bpm_result": {}, "audio_processing_bpm_call": "detectors.Half.detect_bpm"}
    findings = good.diagnose(deep=True, formats=["wav"], **halved)
    assert set(found(findings)["info"]) == {"tempo_wrong", "silence_has_tempo"}, findings
    assert "near 0.5 times" in fired(findings, "audio_processing.tempo_wrong")[0]["summary"]


def test_each_condition_of_a_file_is_a_finding_of_its_own(service):
    """One diagnosis: silent, truncated, codec, sample rate, crash, hang, memory, permission, empty, text, an error."""
    wanted = write_faulty(service.music)
    service.start()
    findings = service.diagnose(
        files=["/music/" + name for name in wanted],
        load_call="detectors.Loader.load",
        step_seconds=8,
        step_memory=150 << 20,
    )
    by_file = {}
    for check, entries in findings.items():
        for entry in entries:
            if check.startswith("audio_processing.file_"):
                by_file.setdefault(entry["object"], []).append(check.partition("file_")[2])
    expected = {"/music/" + name: [check or "decoded"] for name, check in wanted.items()}
    assert by_file == expected, findings
    assert len({check for (check,) in expected.values()}) == 13
    assert "Too many levels of symbolic links" in fired(findings, "audio_processing.file_unreadable")[0]["summary"]
    (cut,) = [each for each in findings["audio_processing.file_truncated"] if each["object"] == "/music/cut.wav"]
    assert "states 4.0 s, and 2.0 s are decoded" in cut["summary"], cut
    # The file that the user cannot read is the first of the library that the service cannot read.
    (private,) = fired(findings, "audio_processing.library_unreadable", "warning")
    assert "/music/private.wav is not readable for user %d (mode 0600" % UID in private["summary"]
    assert str(service.music / "private.wav") in private["hint"]
    assert set(found(findings)) == {"info", "warning", "critical"}


def test_a_container_that_lacks_everything(service):
    """No library of music, of audio, no room and no memory; and a log full of failures."""
    broken = service.detectors.parent / "broken"
    (broken / "essentia").mkdir(parents=True)
    (broken / "essentia" / "__init__.py").write_text("import os\nos.abort()\n")
    broken.chmod(0o755)
    (service.music / "empty").mkdir(0o755)
    closed = service.music / "closed"
    closed.mkdir(0o700)
    tone(closed / "a.mp3", 0.1)
    tone(service.music / "bad.mp3", 0.1)
    log = "import time\nfor n in range(9): print('ERROR analysis failed for /music/bad.mp3: RuntimeError')\n"
    log += "print('ERROR cannot decode /music/gone.mp3', flush=True)\nprint('completed /music/x.mp3', flush=True)\n"
    service.start(
        *("--volume", "%s:/broken:ro" % broken, "--env", "PYTHONPATH=/broken"),
        *("--tmpfs", "/tmp:size=1m,nr_inodes=20,mode=1777", "--read-only"),
        *("--volume", "%s:/empty:ro" % (service.music / "empty")),
        command=("python3", "-c", log + "time.sleep(9999)"),
    )
    wait_until(lambda: "completed" in docker("logs", service.container), "the log", 20)
    docker(
        "exec", service.container, "sh", "-c",
        "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do : > /tmp/tracktion_$n; done; "
        "head -c 1040000 /dev/zero > /tmp/tracktion_1; touch -d '2 days ago' /tmp/tracktion_*",
    )  # fmt: skip
    settings = {
        "directories": ["/music", "/music/closed", "/nowhere", "/empty"],
        "longest_seconds": 7200,
        "settings": [
            {"name": "level", "environment": "LOG_LEVEL", "expected": "INFO"},
            {"name": "path", "environment": "PYTHONPATH", "expected": "/audio-library"},
        ],
        "deep": True,
        "leftovers_warning": 1000000,
    }
    findings = service.diagnose(**settings)
    assert found(findings) == {
        "critical": {
            "library_missing",
            "library_unreadable",
            "temporary_full",
            "temporary_inodes",
            "import_failed",
            "failure_ratio",
        },
        "warning": {
            "library_empty",
            "library_unreadable",
            "leftovers",
            "memory_limit_low",
            "setting_differs",
            "failed_file",
        },
    }, findings
    assert "SIGABRT" in fired(findings, "audio_processing.import_failed")[0]["summary"]
    # A file that is not there any more is no finding.
    (failed,) = fired(findings, "audio_processing.failed_file")
    assert (failed["object"], "failed 9 times" in failed["summary"]) == ("/music/bad.mp3", True)
    (level,) = [each for each in findings["audio_processing.setting_differs"] if each["status"] == "unknown"]
    assert level["object"] == "level"
    (left,) = fired(findings, "audio_processing.leftovers")
    assert left["summary"].startswith("19 files older than 1 d")
    # What a process has open is none.
    holder = "import time\nfiles = [open('/tmp/tracktion_%d' % n) for n in range(1, 20)]\ntime.sleep(999)"
    docker("exec", "--detach", service.container, "python3", "-c", holder)
    wait_until(lambda: not fired(service.diagnose(), "audio_processing.leftovers"), "the files to be open", 20)


def test_leftovers_that_no_process_has_open_are_deleted(service, tmp_path):
    """Also not those that a process outside of the container has open, as in a directory that two of them share."""
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("tracktion_old", "tracktion_open", "tracktion_new", "tracktion_twice", "other_old"):
        (shared / name).write_text("x" * 5000)
    (shared / "tracktion_folder").mkdir()
    (shared / "second").hardlink_to(shared / "tracktion_twice")
    (shared / "tracktion_link").symlink_to(shared / "other_old")
    for path in shared.iterdir():
        if path.name not in ("tracktion_new", "tracktion_link"):
            os.utime(path, (1, 1))
        os.chown(path, UID, UID, follow_symlinks=False)
    shared.chmod(0o1777)
    service.start("--volume", "%s:/tmp" % shared)
    settings = {"audio_processing_python": "", "audio_processing_leftovers_max": 2}
    with open(shared / "tracktion_open", encoding="utf-8"):
        before = {path.name for path in shared.iterdir()}
        (finding,) = fired(service.diagnose(), "audio_processing.leftovers", "info")
        assert finding["remedy"]["id"] == "audio_processing.clear_leftovers"
        planned = carry_out(finding["remedy"], {}, True, **settings)
        assert {path.name for path in shared.iterdir()} == before
        done = carry_out(finding["remedy"], {}, False, **settings)
    assert before - {path.name for path in shared.iterdir()} == {"tracktion_old"}
    paths = [[each["path"] for each in result["deleted"]] for result in (planned, done)]
    assert paths == [["/tmp/tracktion_old"]] * 2
    assert [result["changed"] for result in (planned, done)] == [True, True]
    kept = {each["path"]: each["reason"] for each in done["kept"]}
    assert kept == {"/tmp/tracktion_open": "open", "/tmp/tracktion_twice": "hard_linked"}
    # What is closed now is deleted by the next run, and then nothing is left to do.
    assert carry_out(finding["remedy"], {}, False, **settings)["deleted_total"] == 1
    assert carry_out(finding["remedy"], {}, False, **settings)["changed"] is False


def test_a_container_without_room_for_the_library(service):
    service.start("--memory", "100m", "--read-only", "--env", "PYTHONPATH=")
    findings = service.diagnose(deep=True, directories=[], directory_candidates=["/music"])
    assert found(findings) == {
        "critical": {"temporary_unusable", "library_not_installed"},
        "warning": {"import_failed", "memory_limit_low", "library_empty"},
    }, findings
    assert "of the memory limit are left" in fired(findings, "audio_processing.import_failed")[0]["summary"]


def test_a_container_without_python_a_stopped_one_and_none(service):
    service.start("--user", "0")
    docker("exec", service.container, "sh", "-c", "rm -f /usr/bin/python3*")
    findings = service.diagnose(deep=True)
    assert found(findings) == {}
    (unknown,) = findings["audio_processing.library_not_installed"]
    assert "there is no python3 in the container" in unknown["summary"]
    assert "docker top" in unknown["hint"]
    # A program that is no interpreter.
    findings = service.diagnose(python="/bin/false")
    assert "exit code 1" in findings["audio_processing.library_not_installed"][0]["summary"]
    docker("stop", "--time", "0", service.container)
    (stopped,) = fired(service.diagnose(), "audio_processing.unreachable", "critical")
    assert "is exited" in stopped["summary"]
    assert "docker start %s" % service.container in stopped["hint"]
    docker("rm", service.container)
    (gone,) = fired(service.diagnose(), "audio_processing.unreachable", "critical")
    assert "there is no container of analysis_service" in gone["summary"]


def test_a_container_whose_memory_runs_out(service):
    """The kernel kills the interpreter of the probe: what it would have measured is unknown."""
    service.start("--memory", "6m", "--memory-swap", "6m")
    findings = service.diagnose()
    assert found(findings) == {}, findings
    (unknown,) = findings["audio_processing.library_not_installed"]
    assert "exit code 137" in unknown["summary"] or "the Docker engine rejects" in unknown["summary"], unknown
    assert docker("inspect", "--format", "{{.State.Running}}", service.container).strip() == "true"


def test_an_interpreter_of_the_host_instead_of_a_container(tmp_path):
    tone(tmp_path / "good.wav")
    settings = {
        "audio_processing_service": "",
        "audio_processing_python": "python3",
        "audio_processing_library": "wave",
        "audio_processing_directories": [str(tmp_path)],
        "audio_processing_leftovers_warning": 1 << 60,
    }
    findings = diagnose(AREA, settings)
    assert not {name for name in findings if fired(findings, name)} - {"audio_processing.leftovers"}, findings


def test_without_the_group_docker(good):
    findings = good.diagnose(before=lambda: become(OTHER_UID))
    assert set(findings) == rights.ENGINE.checks
    for entries in findings.values():
        assert {each["status"] for each in entries} == {"unknown"}
        assert rights.ENGINE.grant in entries[0]["hint"]
