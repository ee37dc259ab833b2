# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One log on its way from being found to its entry in the measurement. Private to this collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_sources import Unreadable
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_tally import CURRENT, PREVIOUS, Tally
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_windows import (
    Reader,
    Undated,
    dated,
    newest,
    spans,
)
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, out_of_time

# Of the bytes and the time for a log, what the window that is asked about may take before the one before it.
CURRENT_SHARE = 0.75
COUNTS = (
    "lines",
    "errors",
    "warnings",
    "lines_per_minute",
    "errors_per_minute",
    "warnings_per_minute",
    "progress",
    "complete",
    "covered_seconds",
    "bytes_read",
    "bytes_skipped",
)


class Look:
    """One log on its way to its entry in ``services``."""

    def __init__(self, log, options, window, patterns, most):
        self.log = log
        self.name = log.name
        self.options = options
        self.window = window
        self.most = most
        self.patterns, progress = patterns
        self.progress = next((progress[name] for name in (log.name, log.about["container"]) if name in progress), None)
        self.error = None
        # How to get the right to read it, if that is missing.
        self.hint = None
        self.ready = False
        self.finished = False
        self.budget = 0
        self.size = 0
        # The seconds that its first step had, if they are too few to call a log without an answer hung.
        self.too_short = 0.0
        self.pieces = []
        self.chains = ([], [])
        self.reaches_back = True
        self.tally = None
        self.readers = []

    def open(self, limit):
        """Find where its windows lie."""
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
        self.size = sum(span.size for chain in self.chains for span in chain)
        self.tally = Tally(self.log.form, self.patterns, self.progress, self.options["sample_length"])
        self.ready = True

    def read(self, deadline):
        """Count what is in its windows, the newest first."""
        mine = Deadline(deadline.remaining(self.options["timeout"]))
        for number, chain in enumerate(self.chains):
            share = CURRENT_SHARE if number == CURRENT and sum(span.size for span in self.chains[PREVIOUS]) else 1
            budget = int((self.budget - sum(reader.done for reader in self.readers)) * share)
            if number == CURRENT:
                budget = max(budget, self.budget - sum(span.size for span in self.chains[PREVIOUS]))
            reader = Reader(budget, Deadline(mine.remaining() * share), self.tally.joins, self.log.form.is_partial)
            self.readers.append(reader)
            try:
                for block in reader.blocks(chain):
                    self.tally.feed(block, number)
            except Exception as exc:  # pylint: disable=broad-except
                self.error = "%s: %s" % (type(exc).__name__, exc)
                return
        self.finished = True

    def close(self):
        for piece in self.pieces:
            piece.close()

    # What it comes to

    def described(self, unknown):
        """Its entry in ``services``."""
        if not self.finished and self.error is None:
            self.error = "it did not answer in time, as on a mount whose server is gone or with an engine that hangs"
            if self.too_short is not None:
                self.error = out_of_time(self.too_short)
        if self.error:
            unknown.add("services.%s" % self.name, self.error, self.hint)
        entry = {"name": self.name, "source": self.log.source, **self.log.about, "error": self.error, "hint": self.hint}
        done = self.finished and self.error is None
        entry.update(self._window(CURRENT, self.window.seconds) if done else dict.fromkeys(COUNTS))
        before = self._window(PREVIOUS, self.window.begin - self.window.previous) if done else dict.fromkeys(COUNTS)
        entry["previous"] = before
        entry["errors_ratio"] = ratio(entry["errors_per_minute"], before["errors_per_minute"])
        entry["newest"] = self._newest() if done else None
        entry["left_out"] = self._left_out() if done else None
        return entry

    def _window(self, number, seconds):
        tally, reader, chain = self.tally, self.readers[number], self.chains[number]
        levels = tally.levels[number]
        covered = self._covered(number, seconds)
        errors = levels["error"] + levels["critical"]
        skipped = sum(span.size for span in chain) - reader.done
        if number == PREVIOUS or not self.chains[PREVIOUS]:
            skipped += self.log.left_out_bytes
        per_minute = {
            name: rate(count, covered)
            for name, count in (("lines", tally.lines[number]), ("errors", errors), ("warnings", levels["warning"]))
        }
        progress = {"count": tally.completed[number], "per_minute": rate(tally.completed[number], covered)}
        return {
            "lines": tally.lines[number],
            "errors": errors,
            "warnings": levels["warning"],
            "lines_per_minute": per_minute["lines"],
            "errors_per_minute": per_minute["errors"],
            "warnings_per_minute": per_minute["warnings"],
            "progress": progress if self.progress else None,
            "complete": covered == seconds,
            "covered_seconds": covered,
            "bytes_read": reader.read,
            "bytes_skipped": skipped,
        }

    def _covered(self, number, seconds):
        """The seconds of a window that were read, from its end backwards."""
        end = self.window.end if number == CURRENT else self.window.begin
        reader = self.readers[number]
        reached = None
        if reader.stopped:
            piece, offset = reader.stopped
            found = dated(piece, max(0, offset - 1), piece.size)
            reached = found[1] if found else end
        elif not self.reaches_back and (self.log.left_out or self.log.may_have_lost(len(self.pieces))):
            # What was there before is gone, or was not given to us.
            found = dated(self.pieces[-1], self.pieces[-1].first, self.pieces[-1].size)
            reached = found[1] if found else end
        if reached is None or reached <= end - seconds:
            return seconds
        return max(0.0, end - reached)

    def _left_out(self):
        """Why not all was read, as text; null where it was."""
        current = self.readers[CURRENT]
        if current.truncated:
            return "it was truncated meanwhile"
        if current.stopped:
            used = current.done >= current.budget
            return "the bytes for it were used up" if used else "the time for it was used up"
        return self.log.left_out

    def _newest(self):
        """When its last line was written, as far as the last bytes say."""
        times = (newest(piece) for piece in self.pieces)
        return next((moment for moment in times if moment is not None), None)

    def signatures(self):
        seconds = self.window.begin - self.window.previous
        # None at all was there before only if all of it was read.
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
                    "first": group["first"],
                    "last": group["last"],
                    "sample": group["sample"],
                }

    def known(self):
        for number, found in self.tally.known.items():
            if found["count"]:
                row = (self.options["own"] + self.options["known"])[number]
                row = {name: value for name, value in row.items() if name != "pattern"}
                yield {**row, "service": self.name, **found}


def rate(count, seconds):
    """Per minute; null where nothing was seen. Less than a second counts as one: a moment says little of a minute."""
    return None if seconds <= 0 else round(count * 60.0 / max(1.0, seconds), 3)


def ratio(now, before):
    return None if now is None or not before else round(now / before, 3)
