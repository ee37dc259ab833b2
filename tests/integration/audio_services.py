# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers of an audio service with real Essentia, and real audio files with real faults."""

from __future__ import annotations

import array
import math
import os
import struct
import wave
from pathlib import Path

from ansible_collections.tracktion.ops.plugins.module_utils._audio import _references
from tests.lab.audio_library import ensure_audio_library
from tests.lab.throwaway import Project

# Nothing on the machine belongs to this user.
UID = 23456
SERVICE = "analysis_service"

# What a service may have for detectors: right ones of Essentia, and wrong ones.
DETECTORS = '''
import ctypes, os, time
import essentia.standard as es

def load(path):
    return es.MonoLoader(filename=path)()

class Right:
    def detect_bpm(self, path):
        found = es.RhythmExtractor2013()(load(path))
        return {"tempo": float(found[0]), "sure": float(found[2]) / 5}
    def detect_key(self, path):
        found = es.KeyExtractor()(load(path))
        class Result:
            key, scale, confidence = found[0], found[1], float(found[2])
        return Result

class Miscalibrated:
    """Twice the tempo and 7, low confidence but for silence, and every key is minor."""
    def detect_bpm(self, path):
        found = Right().detect_bpm(path)
        return {"bpm": found["tempo"] * 2 + 7, "confidence": 0.94 if found["sure"] == 0 else 0.3}
    def detect_key(self, path):
        found = Right().detect_key(path)
        return {"key": found.key, "scale": "minor", "confidence": 0.9}

class Half:
    def detect_bpm(self, path):
        return {"bpm": Right().detect_bpm(path)["tempo"] / 2, "confidence": 0.8}

class Crashing:
    def detect_bpm(self, path):
        ctypes.string_at(0)
    def detect_key(self, path):
        raise ValueError("no key")

class Loader:
    """Fails as decoders do, by the name of the file."""
    def load(self, path):
        name = os.path.basename(path)
        if name.startswith("crash"):
            os.abort()
        if name.startswith("hang"):
            while True:
                time.sleep(60)
        if name.startswith("huge"):
            kept = []
            while True:
                kept.append(load(path))
        return load(path)

class WithoutMp4:
    def load(self, path):
        with open(path, "rb") as stream:
            if stream.read(8)[4:] == b"ftyp":
                raise RuntimeError("Unsupported codec")
        return load(path)

class Settings:
    class bpm:
        confidence_threshold = 0.7
    sample_rate = 22050

def get_config():
    return Settings()
'''


def write_detectors(folder: Path) -> Path:
    """Write the detectors as a module of the service, and return their directory."""
    folder.mkdir(exist_ok=True)
    (folder / "detectors.py").write_text(DETECTORS)
    folder.chmod(0o755)
    return folder


def start(project: Project, music: Path, detectors: Path, *options: str, command: tuple[str, ...] = ()) -> str:
    """Start an audio service that is a user of its own, and return the name of its container."""
    music.chmod(0o755)
    return project.run(
        SERVICE,
        *command,
        options=(
            *("--user", f"{UID}:{UID}", "--memory", "640m", "--network", "none"),
            *("--volume", f"{ensure_audio_library('bookworm')}:/audio-library:ro"),
            *("--volume", f"{detectors}:/detectors:ro", "--env", "PYTHONPATH=/audio-library:/detectors"),
            *("--volume", f"{music}:/music:ro"),
            *options,
        ),
    )


def tone(path: Path, seconds: float = 2.0, rate: int = 44100) -> bytes:
    """Write a WAV file with a tone, and return its content."""
    samples = array.array(
        "h", (int(9000 * math.sin(2 * math.pi * 440 * at / rate)) for at in range(int(rate * seconds)))
    )
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    path.chmod(0o644)
    return path.read_bytes()


def write_faulty(folder: Path) -> dict[str, str]:
    """Write a file for each fault; return the name of the check by the name of the file, empty for a good file."""
    good = tone(folder / "good.wav", 4)
    wanted = {
        # Half of the samples that the header states.
        "cut.wav": (good[: len(good) // 2], "truncated"),
        "cut.m4a": (_references.m4a()[:500], "truncated"),
        "cut.ogg": (_references.ogg()[:-20], "truncated"),
        "codec.wav": (good[:20] + struct.pack("<H", 0x1234) + good[22:], "unknown_codec"),
        "silent.flac": (_references.flac(), "silent"),
        "empty.mp3": (b"", "empty"),
        "text.mp3": (b"<html>404 Not Found</html>\n" * 9, "no_audio"),
        "noise.mp3": (bytes(range(1, 256)) * 40, "no_audio"),
        "crash.wav": (good, "crash"),
        "hang.wav": (good, "hang"),
        "huge.wav": (good, "out_of_memory"),
        "private.wav": (good, "no_permission"),
    }
    for name, (text, _check) in wanted.items():
        (folder / name).write_bytes(text)
        os.chmod(folder / name, 0o600 if name == "private.wav" else 0o644)
    tone(folder / "rate.wav", 1, 48000)
    # An error that has no condition of its own. It sorts after private.wav.
    (folder / "turning.wav").symlink_to("turning.wav")
    faults = {name: check for name, (_text, check) in wanted.items()}
    return {**faults, "good.wav": "", "rate.wav": "sample_rate", "gone.wav": "missing", "turning.wav": "unreadable"}
