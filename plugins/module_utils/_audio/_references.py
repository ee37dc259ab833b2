# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes small audio files whose tempo, key and length are known. Private to this collection.

Part of the program that runs inside the container of the audio service: standard library only. No encoder is needed:
the files in compressed formats hold silence, of which each codec has a constant form.
"""

from __future__ import annotations

import array
import io
import math
import struct
import sys
import wave
from typing import Callable, Sequence

RATE = 44100
# Seconds of the files in FORMATS, at least.
FORMAT_SECONDS = 1.0
# The chords C, F, G, C as frequencies of equal temperament: a cadence in C major.
CHORDS = ((261.63, 329.63, 392.0), (174.61, 220.0, 261.63), (196.0, 246.94, 293.66), (261.63, 329.63, 392.0))
CADENCE_KEY = ("C", "major")


def _pcm(samples: Sequence[float]) -> bytes:
    values = array.array("h", (int(32000 * sample) for sample in samples))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _wav_of(data: bytes) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(data)
    return stream.getvalue()


def silence(seconds: float) -> bytes:
    """Return a WAV file of silence."""
    return _wav_of(bytes(2 * int(RATE * seconds)))


def clicks(tempo: float, seconds: float) -> bytes:
    """Return a WAV file of clicks of 20 ms at 1 kHz, ``tempo`` of them per minute."""
    length = int(RATE * 60 / tempo)
    click = [
        math.sin(2 * math.pi * 1000 * number / RATE) * math.exp(-number / (RATE * 0.005))
        for number in range(RATE // 50)
    ]
    beat = _pcm(click) + bytes(2 * (length - len(click)))
    return _wav_of((beat * (int(seconds * tempo / 60) + 1))[: 2 * int(RATE * seconds)])


def cadence(seconds: float) -> bytes:
    """Return a WAV file with a cadence in C major, two chords a second."""
    pattern = b""
    for chord in CHORDS:
        tones = [(2 * math.pi * tone * harmonic / RATE, 0.1 / harmonic) for tone in chord for harmonic in (1, 2, 3)]
        pattern += _pcm([sum(part * math.sin(step * number) for step, part in tones) for number in range(RATE // 2)])
    return _wav_of((pattern * (int(seconds / 2) + 1))[: 2 * int(RATE * seconds)])


# Silence in compressed formats


class Bits:
    """Packs numbers into bytes, the first bit being the highest (MPEG, FLAC) or the lowest one (Vorbis)."""

    def __init__(self, highest_first: bool = True) -> None:
        self._bits: list[int] = []
        self._highest_first = highest_first

    def add(self, value: int, width: int) -> Bits:
        """Append a number of ``width`` bits."""
        bits = [value >> number & 1 for number in range(width)]
        self._bits += reversed(bits) if self._highest_first else bits
        return self

    def data(self) -> bytes:
        """Return the bytes, filled up with 0."""
        rows = [(self._bits + [0] * 7)[at : at + 8] for at in range(0, len(self._bits), 8)]
        return bytes(int("".join(map(str, row if self._highest_first else row[::-1])), 2) for row in rows)


def _crc(data: bytes, polynomial: int, width: int) -> int:
    value, top = 0, 1 << (width - 1)
    for byte in data:
        value ^= byte << (width - 8)
        for _bit in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & ((1 << width) - 1)
    return value


def mp3() -> bytes:
    """Return frames of MPEG 1 Layer III, 32 kbit/s mono, without data: 1152 samples of silence each."""
    length = 144 * 32000 // RATE
    return (b"\xff\xfb\x10\xc0" + bytes(length - 4)) * (1 + int(FORMAT_SECONDS * RATE / 1152))


def flac() -> bytes:
    """Return a FLAC file whose frames have a constant subframe of 4096 samples (RFC 9639)."""
    count = 1 + int(FORMAT_SECONDS * RATE / 4096)
    information = Bits().add(4096, 16).add(4096, 16).add(0, 24).add(0, 24).add(RATE, 20).add(0, 3).add(15, 5)
    block = information.add(4096 * count, 36).add(0, 64).add(0, 64).data()
    file = b"fLaC" + b"\x80" + struct.pack(">I", len(block))[1:] + block
    for number in range(count):
        # 4096 samples, 44.1 kHz, mono, 16 bits, the number of the frame, then a constant subframe of 0.
        head = b"\xff\xf8\xc9\x08" + bytes([number])
        frame = head + bytes([_crc(head, 0x07, 8)]) + b"\x00\x00\x00"
        file += frame + struct.pack(">H", _crc(frame, 0x8005, 16))
    return file


def ogg() -> bytes:
    """Return an Ogg Vorbis file whose packets have an unused floor, which is silence (Vorbis I, section 4.3)."""
    block = 2048
    identification = b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, 1, RATE, 0, 0, 0, 0xBB, 1)
    comment = b"\x03vorbis" + struct.pack("<II", 0, 0) + b"\x01"
    bits = Bits(highest_first=False)
    # One codebook of two entries of one bit, without values.
    bits.add(0, 8).add(0x564342, 24).add(1, 16).add(2, 24).add(0, 1).add(0, 1).add(0, 5).add(0, 5).add(0, 4)
    # One time, a floor of type 1 without partitions, a residue of type 0 without a range.
    bits.add(0, 6).add(0, 16)
    bits.add(0, 6).add(1, 16).add(0, 5).add(0, 2).add(4, 4)
    bits.add(0, 6).add(0, 16).add(0, 24).add(0, 24).add(0, 24).add(0, 6).add(0, 8).add(0, 3).add(0, 1)
    # One mapping of one submap, one mode of short blocks, and the end.
    bits.add(0, 6).add(0, 16).add(0, 1).add(0, 1).add(0, 2).add(0, 8).add(0, 8).add(0, 8)
    bits.add(0, 6).add(0, 1).add(0, 16).add(0, 16).add(0, 8).add(1, 1)
    setup = b"\x05vorbis" + bits.data()
    count = 2 + int(FORMAT_SECONDS * RATE / (block // 2))
    pages = _page([identification], 0, 0, 2) + _page([comment, setup], 1, 0, 0)
    # The first packet only starts the overlap.
    return pages + _page([b"\x00"] * count, 2, (count - 1) * block // 2, 4)


def _page(packets: Sequence[bytes], number: int, position: int, flags: int) -> bytes:
    """Return a page of Ogg with whole packets (RFC 3533)."""
    table = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    head = struct.pack("<4sBBqIII", b"OggS", 0, flags, position, 1, number, 0) + bytes([len(table)]) + table
    page = head + b"".join(packets)
    return page[:22] + struct.pack("<I", _crc(page, 0x04C11DB7, 32)) + page[26:]


def m4a() -> bytes:
    """Return an MP4 file with AAC frames of silence, 1024 samples each (ISO/IEC 14496-12 and -3)."""
    # A single channel element without spectral data, and the end of the frame.
    frame = b"\x00\xc8\x00\x80\x23\x80"
    count = 1 + int(FORMAT_SECONDS * RATE / 1024)
    length = count * 1024
    start = _box(b"ftyp", b"M4A \0\0\0\0M4A isom")
    data = _box(b"mdat", frame * count)
    configuration = b"\x12\x08"
    # AAC LC, 44.1 kHz, one channel, in descriptors.
    decoder = b"\x04" + bytes([17]) + b"\x40\x15" + bytes(11) + b"\x05\x02" + configuration
    stream = b"\x03" + bytes([3 + len(decoder) + 3]) + b"\0\0\0" + decoder + b"\x06\x01\x02"
    entry = bytes(6) + struct.pack(">HQHHII", 1, 0, 1, 16, 0, RATE << 16) + _box(b"esds", bytes(4) + stream)
    table = (
        _box(b"stsd", struct.pack(">II", 0, 1) + _box(b"mp4a", entry))
        + _box(b"stts", struct.pack(">IIII", 0, 1, count, 1024))
        + _box(b"stsc", struct.pack(">IIIII", 0, 1, 1, count, 1))
        + _box(b"stsz", struct.pack(">III", 0, len(frame), count))
        + _box(b"stco", struct.pack(">III", 0, 1, len(start) + 8))
    )
    reference = _box(b"dinf", _box(b"dref", struct.pack(">II", 0, 1) + _box(b"url ", b"\0\0\0\x01")))
    media = (
        _box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, RATE, length, 0x55C4, 0))
        + _box(b"hdlr", struct.pack(">II4s", 0, 0, b"soun") + bytes(13))
        + _box(b"minf", _box(b"smhd", bytes(8)) + reference + _box(b"stbl", table))
    )
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    track = struct.pack(">IIIIII", 7, 0, 0, 1, 0, length) + bytes(8) + struct.pack(">HHHH", 0, 0, 0x100, 0)
    movie = struct.pack(">IIIIIIH", 0, 0, 0, RATE, length, 0x10000, 0x100) + bytes(10) + matrix + bytes(24)
    tracks = _box(b"trak", _box(b"tkhd", track + matrix + bytes(8)) + _box(b"mdia", media))
    return start + data + _box(b"moov", _box(b"mvhd", movie + struct.pack(">I", 2)) + tracks)


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def wav() -> bytes:
    """Return a WAV file of silence."""
    return silence(FORMAT_SECONDS)


FORMATS: dict[str, Callable[[], bytes]] = {"wav": wav, "mp3": mp3, "flac": flac, "ogg": ogg, "m4a": m4a}
