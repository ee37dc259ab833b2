# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random damage to data and to files, the same for the same seed."""

from __future__ import annotations

import copy

ODD = (
    None, True, False, 0, -1, 1e300, float("inf"), float("nan"), 10**400, "", "x", "\ud800", "\x1b[31m", "{{ 1 }}", [],
    {}, [[]], {"a": None},
)  # fmt: skip


def mutated(value, chance, most=3):
    """A copy of ``value`` in which up to ``most`` parts, at any depth, are odd, missing or doubled."""
    made = copy.deepcopy(value)
    for _change in range(chance.randint(0, most)):
        made = _mutated_once(made, chance)
    return made


def _mutated_once(value, chance):
    if chance.random() < 0.15 or not isinstance(value, (dict, list)) or not value:
        return copy.deepcopy(chance.choice(ODD))
    key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
    kind = chance.random()
    if kind < 0.2:
        del value[key]
    elif kind < 0.3 and isinstance(value, list):
        value.append(copy.deepcopy(value[key]))
    else:
        value[key] = _mutated_once(value[key], chance)
    return value


def damaged(content, chance):
    """``content`` with some bytes changed, cut off or doubled; half of the time as it is."""
    made = bytearray(content)
    if chance.random() < 0.5:
        return bytes(made)
    for _change in range(chance.randint(1, 4)):
        at = chance.randrange(len(made) + 1)
        made[at : at + chance.randint(0, 9)] = bytes(chance.randrange(256) for _byte in range(chance.randint(0, 9)))
    return bytes(made).replace(b"\n", b" ")
