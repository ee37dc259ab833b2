# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scans one log: opens it, counts its windows, returns its entry of the measurement. Private to this collection."""

from __future__ import annotations

from typing import Iterable, Iterator, NamedTuple, Pattern, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_health_checks import Allowance
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_known import Messages
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_series import Series, Source, is_ongoing
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_sources import Log, Unreadable
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_tally import CURRENT, PREVIOUS, Known, Tally
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_windows import (
    Piece,
    Reader,
    Span,
    Undated,
    first_dated,
    newest_time,
    spans,
)
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown, out_of_time
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

# Share of the bytes and of the time for a log that the current window may use before the previous one.
CURRENT_SHARE = 0.75
COUNTS = (
    "lines",
    "errors",
    "warnings",
    "lines_per_minute",
    "errors_per_minute",
    "warnings_per_minute",
    "errors_in_worst_minute",
    "progress",
    "complete",
    "covered_seconds",
    "bytes_read",
    "bytes_skipped",
)


class Window:
    """The current window, and the previous one of the same length, in epoch seconds."""

    def __init__(self, options: Options, now: float) -> None:
        self.end = now
        self.begin: float = max(now - options["minutes"] * 60, options["since"])
        self.seconds = now - self.begin
        self.previous: float = max(self.begin - self.seconds, options["since"])

    def as_result(self) -> Part:
        """Return the part ``window``: times in epoch seconds and the length in seconds."""
        return {"begin": self.begin, "end": self.end, "seconds": self.seconds, "previous_begin": self.previous}


class Patterns(NamedTuple):
    """The options that are regular expressions: known messages in order, and progress by service."""

    known: Messages
    progress: dict[str, Pattern[bytes]]
    # Numbers of the known messages that monitors and health checks cause.
    probes: frozenset[int] = frozenset()


class Scan:
    """The scan of one log. ``open()`` and ``read()`` may hang, so call them in a thread."""

    def __init__(self, log: Log, options: Options, window: Window, patterns: Patterns, most: int) -> None:
        self.log = log
        self.name = log.name
        self.options = options
        self.window = window
        # Bytes that the log may hold in memory.
        self.most = most
        self.patterns = patterns
        names = (log.name, log.about["container"])
        self.progress = next((patterns.progress[name] for name in names if name in patterns.progress), None)
        self.error: str | None = None
        # Names the missing right.
        self.hint: str | None = None
        self.ready = False
        self.finished = False
        self.newest: float | None = None
        self.budget = 0
        self.size = 0
        # The seconds for open(), if they are too few to call a log that does not answer unreadable.
        self.too_short: float | None = 0.0
        self.pieces: Sequence[Piece] = []
        self.chains: tuple[list[Span], list[Span]] = ([], [])
        self.reaches_back = True
        self.tally = Tally(log.form)
        self.readers: list[Reader] = []

    def open(self, limit: Deadline) -> None:
        """Open the log and find its windows."""
        self.too_short = limit.remaining() if limit.too_short(self.options["timeout"]) else None
        try:
            self.pieces = self.log.open(self.window.previous, self.most, limit.remaining())
            current, previous, self.reaches_back = spans(self.pieces, self.window.previous, self.window.begin)
        except (Unreadable, Undated) as exc:
            self.error, self.hint = str(exc), getattr(exc, "hint", None)
            return
        except Exception as exc:  # pylint: disable=broad-except
            self.error = "%s: %s" % (type(exc).__name__, exc)
            return
        self.chains = (current, previous)
        self.size = sum(map(_size, self.chains))
        # open() sets the form of the log.
        seconds = (self.window.seconds, self.window.begin - self.window.previous)
        self.tally = Tally(
            self.log.form,
            self.patterns.known,
            self.progress,
            self.options["sample_length"],
            seconds,
            self.patterns.probes,
            [Allowance(check) for check in self.log.health_checks],
        )
        self.ready = True

    def read(self, deadline: Deadline) -> None:
        """Count the windows, newest first."""
        own = Deadline(deadline.remaining(self.options["timeout"]))
        previous_size = _size(self.chains[PREVIOUS])
        for number, chain in enumerate(self.chains):
            share = CURRENT_SHARE if number == CURRENT and previous_size else 1
            budget = int((self.budget - sum(reader.done for reader in self.readers)) * share)
            if number == CURRENT:
                budget = max(budget, self.budget - previous_size)
            reader = Reader(budget, Deadline(own.remaining() * share), self.tally.continues, self.log.form.is_partial)
            self.readers.append(reader)
            try:
                for block in reader.blocks(chain):
                    self.tally.feed(block, number)
            except Exception as exc:  # pylint: disable=broad-except
                self.error = "%s: %s" % (type(exc).__name__, exc)
                return
        # The time of the last line.
        times = (newest_time(piece) for piece in self.pieces)
        self.newest = next((moment for moment in times if moment is not None), None)
        self.finished = True

    def close(self) -> None:
        """Close the files of the log."""
        for piece in self.pieces:
            piece.close()

    # Results

    def as_result(self, unknown: Unknown) -> Part:
        """Return the log's entry of ``services``."""
        if not self.finished and self.error is None:
            self.error = "no answer within the timeout, as from a dead network mount or an engine that hangs"
            if self.too_short is not None:
                self.error = out_of_time(self.too_short)
        if self.error:
            unknown.add("services.%s" % self.name, self.error, self.hint)
        done = self.finished and self.error is None
        counts = self._counts(CURRENT, self.window.seconds) if done else dict.fromkeys(COUNTS)
        previous = self._counts(PREVIOUS, self.window.begin - self.window.previous) if done else dict.fromkeys(COUNTS)
        times = self.tally.times
        return {
            "name": self.name,
            "source": self.log.source,
            **self.log.about,
            "error": self.error,
            "hint": self.hint,
            **counts,
            "previous": previous,
            "errors_ratio": ratio(counts["errors_in_worst_minute"], previous["errors_in_worst_minute"]),
            "errors_first": times.first if done else None,
            "errors_last": times.last if done else None,
            "errors_ongoing": self.is_ongoing(times) if done else None,
            "burst": self.tally.histograms[CURRENT].burst(counts["covered_seconds"] or 0.0) if done else None,
            "newest": self.newest if done else None,
            "left_out": self._left_out() if done else None,
        }

    def _counts(self, number: int, seconds: float) -> Part:
        """Return the ``COUNTS`` of a window of ``seconds``."""
        tally, reader, chain = self.tally, self.readers[number], self.chains[number]
        levels = tally.levels[number]
        covered = self._covered(number, seconds)
        errors = levels["error"] + levels["critical"]
        skipped = _size(chain) - reader.done
        if number == PREVIOUS or not self.chains[PREVIOUS]:
            skipped += self.log.left_out_bytes
        worst = tally.histograms[number].worst_minute()
        progress = {"count": tally.completed[number], "per_minute": rate(tally.completed[number], covered)}
        return {
            "lines": tally.lines[number],
            "errors": errors,
            "warnings": levels["warning"],
            "lines_per_minute": rate(tally.lines[number], covered),
            "errors_per_minute": rate(errors, covered),
            "warnings_per_minute": rate(levels["warning"], covered),
            "errors_in_worst_minute": worst if number == CURRENT or covered > 0 else None,
            "progress": progress if self.progress else None,
            "complete": covered == seconds,
            "covered_seconds": covered,
            "bytes_read": reader.read,
            "bytes_skipped": skipped,
        }

    def _covered(self, number: int, seconds: float) -> float:
        """Return the seconds of a window that were read, from its end backwards."""
        end = self.window.end if number == CURRENT else self.window.begin
        reader = self.readers[number]
        reached = None
        if reader.stopped:
            piece, offset = reader.stopped
            found = first_dated(piece, max(0, offset - 1), piece.size)
            reached = found[1] if found else end
        elif not self.reaches_back and (self.log.left_out or self.log.may_have_lost(len(self.pieces))):
            # Older lines were deleted, or left out.
            found = first_dated(self.pieces[-1], self.pieces[-1].first, self.pieces[-1].size)
            reached = found[1] if found else end
        if reached is None or reached <= end - seconds:
            return seconds
        return max(0.0, end - reached)

    def _left_out(self) -> str | None:
        """Return why a part of the current window was not read; null if all of it was."""
        current = self.readers[CURRENT]
        if current.truncated:
            return "it was truncated meanwhile"
        if current.stopped:
            used = current.done >= current.budget
            return "its budget of bytes was used up" if used else "its time was used up"
        return self.log.left_out

    def is_ongoing(self, times: Series) -> bool:
        """Return whether these events have to be expected again, as ``_log_series.is_ongoing()``."""
        source = Source(self.log.about["state"] in (None, "running"), self.log.started, self.newest)
        return is_ongoing(
            times, source, self.window.end, self.options["over_seconds"], self.options["over_once_seconds"]
        )

    def signatures(self) -> Iterator[Part]:
        """Yield the log's entries of ``signatures``."""
        seconds = self.window.begin - self.window.previous
        # A count of zero is known only if all of the previous window was read.
        rows = self.options["own"] + self.options["known"]
        all_read = seconds > 0 and self._covered(PREVIOUS, seconds) == seconds
        for group in self.tally.groups.values():
            count, previous = group["counts"]
            if count:
                yield {
                    "service": self.name,
                    "level": group["level"],
                    "signature": group["signature"],
                    "count": count,
                    "previous_count": previous if previous or all_read else None,
                    "first": group["times"].first,
                    "last": group["times"].last,
                    "ongoing": self.is_ongoing(group["times"]),
                    "known": None if group["known"] is None else rows[group["known"]]["id"],
                    "example": group["example"],
                    "sample": group["sample"],
                }

    def known(self) -> Iterator[Part]:
        """Yield the log's entries of ``known``."""
        rows = self.options["own"] + self.options["known"]
        cleared = {row["clears"]: number for number, row in enumerate(rows) if row.get("clears")}
        for number, found in self.tally.known.items():
            row = rows[number]
            if row.get("clears"):
                continue
            about = {name: value for name, value in row.items() if name != "pattern"}
            entry = {**about, **self._known(found), "probe": number in self.patterns.probes}
            entry["transient"] = bool(row.get("transient"))
            if row["id"] in cleared:
                # A message of a state, which is written once: silence proves nothing.
                end = self.tally.known.get(cleared[row["id"]])
                entry["ongoing"] = not self._is_over(found["times"], end["times"].latest if end else None)
                if entry["ongoing"]:
                    entry["count"] = entry["count"] or entry["previous_count"]
            if entry["count"]:
                yield entry
        for number, found in self.tally.explained.items():
            if found["counts"][CURRENT]:
                check = self.log.health_checks[number].as_result()
                yield {
                    "id": "health_check",
                    **self._known(found),
                    "probe": True,
                    "transient": False,
                    "health_check": check,
                }

    def _known(self, found: Known) -> Part:
        """Return the fields of an entry of ``known`` that the log yields."""
        count, previous = found["counts"]
        times = found["times"]
        # An event has no time if no line near it has one.
        some_time = self.newest if self.newest is not None else self.window.end
        return {
            "service": self.name,
            "container": self.log.about["container"],
            "project": self.log.about["project"],
            "count": count,
            "previous_count": previous,
            "first": some_time if times.oldest is None else times.first or times.oldest,
            "last": some_time if times.latest is None else times.latest,
            "ongoing": self.is_ongoing(times),
            "sample": found["sample"],
            "names": {group: sorted(values) for group, values in found["names"].items()},
            "peers": [{"address": peer, "container": self.log.names.get(peer)} for peer in sorted(found["peers"])],
            "health_check": None,
        }

    def _is_over(self, times: Series, cleared: float | None) -> bool:
        """Return whether the state of which a message reports the begin has ended: it was cleared, or by a restart."""
        last = times.latest or 0.0
        restarted = self.log.started
        return (cleared is not None and cleared >= last) or (
            restarted is not None and restarted > last and not self.is_ongoing(times)
        )


def _size(chain: Iterable[Span]) -> int:
    return sum(span.size for span in chain)


def rate(count: int, seconds: float) -> float | None:
    """Return a count per minute; null without a time. Less than a second counts as one, as it proves little."""
    return None if seconds <= 0 else round(count * 60.0 / max(1.0, seconds), 3)


def ratio(now: float | None, before: float | None) -> float | None:
    """Return ``now`` as a multiple of ``before``; null if one is unknown or ``before`` is 0."""
    return None if now is None or not before else round(now / before, 3)
