# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_names as names


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        (b"track:12:bpm", b"track"),
        (b"plain", b""),
        (b"{user:12}:cart:5", b"{*}:cart"),
        (b"{user:12}:cart", b"{*}:cart"),
        (b"{cart}:12", b"{*}"),
        (b"{user1000}.following", b"{*}.following"),
        (b"{user1000}", b"{*}"),
        (b"cart{7}:5", b"cart{*}"),
        (b"cart:{7}:5", b"cart"),
        (b"cart{7}", b"cart{*}"),
        (b"cart5{7}", b""),
        (b"{}:cart:5", b"{}"),
        (b"{open:cart", b"{open"),
    ],
)
def test_a_hash_tag_is_no_prefix(name, prefix):
    assert names.prefix_of(name, b":") == prefix


def test_a_hidden_name_shows_no_hash_tag():
    assert names.key_name(b"{user:alice}:cart:5", b":", False).startswith("{*}:cart:#")
