# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads what the header of an audio file states, with bounded reads. Private to this collection.

Part of the program that runs inside the container of the audio service: standard library only. Each parser returns
``container``, ``codec``, ``seconds`` (as stated, null if it is not stated), ``sample_rate``, ``channels`` and
``incomplete`` (whether the file is shorter than its header states, null if that is not stated).
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO, Callable, Dict, Iterator

Facts = Dict[str, Any]

HEAD = 65536
# Chunks or boxes that are read of one file.
MOST_PARTS = 256
# The last bytes of an Ogg file, which hold its last page: a page has at most 65,307 bytes.
OGG_TAIL = 131072
WAV_CODECS = {1: "pcm", 2: "adpcm", 3: "pcm_float", 6: "alaw", 7: "mulaw", 0x50: "mp2", 0x55: "mp3", 0xFFFE: "pcm"}
MP4_CODECS = {"mp4a": "aac", "alac": "alac", "ac-3": "ac3", "Opus": "opus", "fLaC": "flac", ".mp3": "mp3"}
# Bit rates of Layer III in kbit/s: MPEG 1, and MPEG 2 and 2.5.
RATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
RATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
SAMPLE_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


class Invalid(Exception):
    """The file does not have the structure that its first bytes announce."""


def describe(stream: BinaryIO, size: int) -> Facts:
    """Return what the header of an open file of ``size`` bytes states.

    ``container`` is ``empty``, ``text`` or null for a file that is no audio file. Raises OSError.
    """
    found: Facts = dict.fromkeys(("container", "codec", "seconds", "sample_rate", "channels", "incomplete"))
    stream.seek(0)
    head = stream.read(HEAD)
    if not head:
        return {**found, "container": "empty"}
    for name, matches, parse in FORMATS:
        if matches(head):
            try:
                return {**found, "container": name, **parse(stream, size, head)}
            except (Invalid, struct.error, IndexError, ZeroDivisionError, OverflowError):
                return {**found, "container": name, "incomplete": True}
    return {**found, "container": "text" if _is_text(head[:4096]) else None}


def _is_text(head: bytes) -> bool:
    """Return whether these bytes are text: no NUL, and few other control characters."""
    controls = sum(1 for byte in head if byte < 32 and byte not in b"\t\n\r\f\x1b")
    return b"\0" not in head and controls * 50 <= len(head)


def _at(stream: BinaryIO, offset: int, length: int) -> bytes:
    stream.seek(offset)
    data = stream.read(length)
    if len(data) < length:
        raise Invalid
    return data


# WAV


def _wav(stream: BinaryIO, size: int, _head: bytes) -> Facts:
    found: Facts = {}
    bytes_per_second, offset = 0, 12
    for _number in range(MOST_PARTS):
        if offset + 8 > size:
            break
        name, length = struct.unpack("<4sI", _at(stream, offset, 8))
        if name == b"fmt ":
            fields = struct.unpack("<HHIIHH", _at(stream, offset + 8, 16))
            codec, found["channels"], found["sample_rate"], bytes_per_second = fields[:4]
            if codec == 0xFFFE and length >= 26:
                codec = struct.unpack("<H", _at(stream, offset + 32, 2))[0]
            found["codec"] = WAV_CODECS.get(codec, "0x%04x" % codec)
        elif name == b"data":
            # A program that writes to a pipe does not know the length.
            if length not in (0, 0xFFFFFFFF) and bytes_per_second:
                found["seconds"] = length / bytes_per_second
                found["incomplete"] = offset + 8 + length > size
            break
        offset += 8 + length + length % 2
    return found


# FLAC


def _flac(stream: BinaryIO, size: int, head: bytes) -> Facts:
    return _streaminfo(_at(stream, 8, 34), "flac")


def _streaminfo(block: bytes, codec: str) -> Facts:
    packed = int.from_bytes(block[10:18], "big")
    rate, channels, samples = packed >> 44, (packed >> 41 & 7) + 1, packed & ((1 << 36) - 1)
    if not rate:
        raise Invalid
    return {"codec": codec, "sample_rate": rate, "channels": channels, "seconds": samples / rate if samples else None}


# Ogg


def _ogg(stream: BinaryIO, size: int, head: bytes) -> Facts:
    serial, packet = head[14:18], head[27 + head[26] :]
    found, skipped = _ogg_packet(packet)
    stream.seek(max(0, size - OGG_TAIL))
    tail = stream.read(OGG_TAIL)
    at = len(tail)
    while True:
        at = tail.rfind(b"OggS", 0, at)
        if at < 0:
            return {**found, "incomplete": True}
        page = tail[at : at + 27]
        if len(page) == 27 and page[14:18] == serial:
            break
    table = tail[at + 27 : at + 27 + page[26]]
    is_whole = len(table) == page[26] and at + 27 + page[26] + sum(table) <= len(tail)
    samples = int.from_bytes(page[6:14], "little", signed=True) - skipped
    if found["sample_rate"] and samples >= 0 and "seconds" not in found:
        found["seconds"] = samples / found["sample_rate"]
    # The last page of a stream has the flag 4. Without it, the length of the whole is not known.
    found["incomplete"] = not (is_whole and page[5] & 4)
    if found["incomplete"] and found["codec"] != "flac":
        found["seconds"] = None
    return found


def _ogg_packet(packet: bytes) -> tuple[Facts, int]:
    """Return what the first packet of a stream states, and the samples to skip at the start."""
    if packet.startswith(b"\x01vorbis"):
        channels, rate = struct.unpack("<BI", packet[11:16])
        return {"codec": "vorbis", "sample_rate": rate, "channels": channels}, 0
    if packet.startswith(b"OpusHead"):
        channels, skipped = struct.unpack("<BH", packet[9:12])
        return {"codec": "opus", "sample_rate": 48000, "channels": channels}, skipped
    if packet.startswith(b"\x7fFLAC"):
        found = _streaminfo(packet[17:51], "flac")
        return {name: value for name, value in found.items() if value is not None}, 0
    return {"codec": packet[:8].decode("ascii", "replace").strip("\0\x01\x7f "), "sample_rate": None}, 0


# MP3


def _mp3(stream: BinaryIO, size: int, head: bytes) -> Facts:
    start = 0
    if head.startswith(b"ID3"):
        # Seven bits of each byte count.
        start = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0)))
        if head[5] & 16:
            start += 10
    stream.seek(start)
    data = stream.read(HEAD)
    at = next((at for at in range(max(0, len(data) - 3)) if _is_frame(data, at)), None)
    if at is None:
        raise Invalid
    version, rate, sample_rate, channels, samples = _frame(data[at : at + 4])
    found: Facts = {"codec": "mp3", "sample_rate": sample_rate, "channels": channels}
    side = (32 if channels == 2 else 17) if version == 3 else (17 if channels == 2 else 9)
    body = data[at + 4 : at + 200]
    if body[side : side + 4] in (b"Xing", b"Info"):
        flags = struct.unpack(">I", body[side + 4 : side + 8])[0]
        fields = struct.unpack(">II", body[side + 8 : side + 16])
        frames = fields[0] if flags & 1 else None
        stated = fields[1 if flags & 1 else 0] if flags & 2 else None
    elif body[32:36] == b"VBRI":
        stated, frames = struct.unpack(">II", body[42:50])
    else:
        # At a constant bit rate the length follows from the size: a cut file has no other length.
        is_tagged = size > 128 and _at(stream, size - 128, 3) == b"TAG"
        audio = size - start - at - (128 if is_tagged else 0)
        return {**found, "seconds": audio * 8 / (rate * 1000)}
    if frames:
        found["seconds"] = frames * samples / sample_rate
    if stated:
        found["incomplete"] = start + at + stated > size
    return found


def _is_frame(data: bytes, at: int) -> bool:
    """Return whether a frame starts here, and another one where it ends."""
    found = _frame(data[at : at + 4])
    if not found:
        return False
    version, rate, sample_rate, _channels, _samples = found
    padding = data[at + 2] >> 1 & 1
    after = at + (144 if version == 3 else 72) * rate * 1000 // sample_rate + padding
    return after + 4 > len(data) or bool(_frame(data[after : after + 4]))


def _frame(header: bytes) -> tuple[int, int, int, int, int]:
    """Return version (3 is MPEG 1), kbit/s, sample rate, channels and samples of a frame of Layer III; else empty."""
    nothing: Any = ()
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return nothing
    version, rate, sample_rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or rate in (0, 15) or sample_rate == 3:
        return nothing
    rates = RATES_1 if version == 3 else RATES_2
    channels = 1 if header[3] >> 6 == 3 else 2
    return version, rates[rate], SAMPLE_RATES[version][sample_rate], channels, 1152 if version == 3 else 576


# MP4


def _mp4(stream: BinaryIO, size: int, _head: bytes) -> Facts:
    found: Facts = {"incomplete": False}
    moov = None
    for name, start, end in _boxes(stream, 0, size):
        if end > size:
            found["incomplete"] = True
        if name == b"moov":
            moov = (start, min(end, size))
    if moov is None:
        # It is written last: a cut file has none.
        return {"incomplete": True}
    for name, start, end in _boxes(stream, *moov):
        if name == b"mvhd":
            head = _at(stream, start, 32)
            scale, length = struct.unpack(">IQ", head[20:32]) if head[0] else struct.unpack(">II", head[12:20])
            found["seconds"] = length / scale if length else None
        elif name == b"trak" and "codec" not in found:
            found.update(_track(stream, start, min(end, moov[1])))
    return found


def _track(stream: BinaryIO, start: int, end: int) -> Facts:
    """Return codec, sample rate and channels of the first entry of a sound track; empty for another track."""
    for wanted in (b"mdia", b"minf", b"stbl", b"stsd"):
        box = next(((first, last) for name, first, last in _boxes(stream, start, end) if name == wanted), None)
        if box is None:
            return {}
        start, end = box[0], min(box[1], end)
    entry = _at(stream, start + 8, 36)
    codec = entry[4:8].decode("ascii", "replace")
    channels, rate = struct.unpack(">H", entry[24:26])[0], struct.unpack(">I", entry[32:36])[0] >> 16
    return {"codec": MP4_CODECS.get(codec, codec), "channels": channels, "sample_rate": rate or None}


def _boxes(stream: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the content of each box. Each box ends after it starts, so that this ends."""
    for _number in range(MOST_PARTS):
        if start + 8 > end:
            return
        length, name = struct.unpack(">I4s", _at(stream, start, 8))
        first = start + 8
        if length == 1:
            length, first = struct.unpack(">Q", _at(stream, first, 8))[0], start + 16
        elif length == 0:
            length = end - start
        if start + length < first:
            raise Invalid
        yield name, first, start + length
        start += length


FORMATS: tuple[tuple[str, Callable[[bytes], bool], Callable[[BinaryIO, int, bytes], Facts]], ...] = (
    ("wav", lambda head: head[:4] == b"RIFF" and head[8:12] == b"WAVE", _wav),
    ("flac", lambda head: head[:4] == b"fLaC", _flac),
    ("ogg", lambda head: head[:4] == b"OggS", _ogg),
    ("mp4", lambda head: head[4:8] == b"ftyp", _mp4),
    ("mp3", lambda head: head[:3] == b"ID3" or bool(_frame(head[:4])), _mp3),
)
