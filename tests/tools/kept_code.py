# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compiles each file once in the test `import` of ansible-test.

The test imports each file of the collection anew, with all that it imports: 6009 compilations of 327 files.
tests/tools/sanity puts this module into the environments of ansible-test. It keeps to Python 3.8.
"""

from __future__ import annotations
import __future__

import builtins
import os
import sys

compile_code = builtins.compile
INHERITED = 0
for feature in __future__.all_feature_names:
    INHERITED |= getattr(__future__, feature).compiler_flag
kept = {}


def compile_once(source, filename, mode, flags=0, dont_inherit=False, optimize=-1, **options):
    """Return what compile() returns for these arguments; the same code object for the same source of a file."""
    if not dont_inherit:
        flags |= sys._getframe(1).f_code.co_flags & INHERITED
    if options or not isinstance(source, bytes):
        return compile_code(source, filename, mode, flags, True, optimize, **options)
    key = (source, filename, mode, flags, optimize)
    if key not in kept:
        kept[key] = compile_code(source, filename, mode, flags, True, optimize)
    return kept[key]


# The variable is set for the test `import` only.
if "SANITY_IMPORTER_TYPE" in os.environ:
    builtins.compile = compile_once
