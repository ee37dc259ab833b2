# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the headers of audio files state, also of files that are cut or made to harm."""

from __future__ import annotations

import io
import random
import struct
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._audio import _headers, _references

REAL = {name: make() for name, make in _references.FORMATS.items()}
CONTAINERS = {"m4a": "mp4"}
CODECS = {"wav": "pcm", "m4a": "aac", "ogg": "vorbis"}


def describe(data):
    return _headers.describe(io.BytesIO(data), len(data))


@pytest.mark.parametrize("name", REAL)
def test_the_header_of_a_real_file(name):
    found = describe(REAL[name])
    assert found["container"] == CONTAINERS.get(name, name)
    assert found["codec"] == CODECS.get(name, name)
    assert (found["sample_rate"], found["channels"]) == (44100, 1)
    assert found["seconds"] == pytest.approx(1.0, abs=0.03)
    assert not found["incomplete"]


@pytest.mark.parametrize("name", ["wav", "ogg", "m4a"])
def test_a_cut_file_is_incomplete(name):
    assert describe(REAL[name][:-20])["incomplete"]


def test_a_cut_flac_states_its_whole_length():
    assert describe(REAL["flac"][:80])["seconds"] == describe(REAL["flac"])["seconds"]


@pytest.mark.parametrize("name", REAL)
def test_no_length_of_a_cut_file_raises(name):
    data = REAL[name]
    for length in {*range(1, min(len(data), 300)), *range(300, len(data), 997)}:
        found = describe(data[:length])
        assert set(found) == {"container", "codec", "seconds", "sample_rate", "channels", "incomplete"}


@pytest.mark.parametrize("name", REAL)
def test_no_changed_byte_raises(name):
    numbers = random.Random(name)
    for _number in range(400):
        data = bytearray(REAL[name][:4096])
        for _change in range(numbers.randint(1, 6)):
            data[numbers.randrange(min(len(data), 700))] = numbers.choice((0, 1, 8, 127, 128, 254, 255))
        found = describe(bytes(data))
        assert found["seconds"] is None or found["seconds"] >= 0


def box(name, content):
    return struct.pack(">I", 8 + len(content)) + name + content


@pytest.mark.parametrize(
    "data",
    [
        # A size of 0, of less than the head of a box, and of more than any file.
        box(b"ftyp", b"M4A ") + struct.pack(">I", 0) + b"moov" + struct.pack(">I", 0) + b"moov",
        box(b"ftyp", b"M4A ") + struct.pack(">I", 1) + b"moov" + struct.pack(">Q", (1 << 64) - 1),
        box(b"ftyp", b"M4A ") + struct.pack(">I", 1) + b"moov" + struct.pack(">Q", 0),
        box(b"ftyp", b"M4A ") + struct.pack(">I", 4) + b"moov" * 100,
        # A million boxes, and boxes within boxes.
        box(b"ftyp", b"M4A ") + box(b"free", b"") * 100000,
        box(b"ftyp", b"M4A ") + box(b"moov", box(b"trak", b"") * 100000),
        box(b"ftyp", b"M4A ") + box(b"moov", box(b"mvhd", bytes(3))),
        b"RIFF\xff\xff\xff\xffWAVE" + b"LIST\0\0\0\0" * 100000,
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + bytes(16) + b"data\xff\xff\xff\xff",
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(100),
        b"\xff\xfb\x90\x00" + b"\xff" * 100000,
        b"fLaC\0\0\0\x22" + bytes(34),
        b"OggS" * 40000,
        b"OggS" + bytes(22) + b"\xff" + b"\xff" * 300,
    ],
)
def test_a_hostile_file_ends_soon(data):
    began = time.monotonic()
    describe(data)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("data", "container"),
    [
        (b"", "empty"),
        (b"<html>not found</html>", "text"),
        ("Lied über Bäume\n".encode(), "text"),
        (bytes(1000), None),
        (bytes(range(1, 256)), None),
        (b"\x7fELF\x02\x01\x01" + bytes(60), None),
    ],
)
def test_what_is_no_audio(data, container):
    assert describe(data)["container"] == container


def frames(header, length, count):
    return (header + bytes(length - len(header))) * count


def test_mp3_with_a_tag_and_a_number_of_frames():
    # MPEG 1 Layer III, 128 kbit/s, 44.1 kHz, stereo: frames of 417 bytes. The side information has 32 bytes.
    head = b"\xff\xfb\x90\x00"
    first = head + bytes(32) + b"Xing" + struct.pack(">III", 3, 1000, 417 * 1001)
    data = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + first + bytes(417 - len(first)) + frames(head, 417, 5)
    found = describe(data)
    assert found["seconds"] == pytest.approx(1000 * 1152 / 44100)
    assert (found["channels"], found["incomplete"]) == (2, True)


def test_mp3_of_a_constant_bit_rate():
    found = describe(frames(b"\xff\xfb\x90\x00", 417, 100) + b"TAG" + bytes(125))
    assert found["seconds"] == pytest.approx(100 * 417 * 8 / 128000)


def test_wav_with_an_unknown_codec_and_without_a_length():
    form = struct.pack("<HHIIHH", 0x1234, 2, 48000, 192000, 4, 16)
    data = b"RIFF\0\0\0\0WAVE" + b"fmt " + struct.pack("<I", 16) + form + b"data" + b"\xff\xff\xff\xff" + bytes(8)
    found = describe(data)
    assert (found["codec"], found["seconds"], found["sample_rate"]) == ("0x1234", None, 48000)


def test_opus_begins_with_samples_to_skip():
    packet = b"OpusHead\x01\x02" + struct.pack("<H", 312) + bytes(7)
    page = struct.pack("<4sBBqIII", b"OggS", 0, 4, 48312, 1, 0, 0) + bytes([1, len(packet)]) + packet
    found = describe(page)
    assert (found["codec"], found["channels"], found["seconds"], found["incomplete"]) == ("opus", 2, 1.0, False)
