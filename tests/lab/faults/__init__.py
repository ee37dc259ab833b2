# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults, by name and for real. Each is a generator: it breaks something, yields, and mends it.

    @fault(fires=["database.blocked_sessions"])
    def blocked_transaction(lab):
        \"\"\"What is broken, in one line.\"\"\"
        ...break it, and wait until it is broken...
        yield
        ...mend it, also if a remedy has mended it meanwhile...

It is mended also after a failed test. What can fail halfway through breaking belongs in `try` and `finally`.
It lives in a module named for its area and is registered under its own name with dashes, `blocked-transaction`.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..shell import LabError

if TYPE_CHECKING:
    from ..stack import Stack


@dataclass(frozen=True)
class Fault:
    """A way to break the stack, and the checks that have to notice."""

    name: str
    area: str
    fires: tuple[str, ...]
    summary: str
    inject: Callable[[Stack], Iterator[None]]


_registry: dict[str, Fault] = {}


def fault(fires: list[str]) -> Callable:
    """Register a generator function as a fault; `fires` are the ids of the checks that it makes fire."""

    def register(inject: Callable[[Stack], Iterator[None]]) -> Callable[[Stack], Iterator[None]]:
        name = inject.__name__.replace("_", "-")
        if name in _registry:
            raise ValueError(f"two faults are named {name}")
        if not inject.__doc__:
            raise ValueError(f"fault {name} does not say what it breaks: it has no docstring")
        summary = " ".join(inject.__doc__.split())
        _registry[name] = Fault(name, inject.__module__.rpartition(".")[2], tuple(fires), summary, inject)
        return inject

    return register


def every() -> dict[str, Fault]:
    """All faults by name, ordered by area."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_registry.items(), key=lambda item: (item[1].area, item[0])))


def named(name: str) -> Fault:
    """The fault of this name."""
    known = every()
    if name not in known:
        raise LabError(f"no fault {name!r}; there are: {', '.join(known)}")
    return known[name]


@contextlib.contextmanager
def injected(name: str, lab: Stack) -> Iterator[None]:
    """Broken while the context lasts; mended at its end, however it ends."""
    steps = named(name).inject(lab)
    try:
        next(steps, None)
        yield
    finally:
        # Not thrown into the generator: a fault need not write `try` to be mended after a failed test.
        next(steps, None)
