# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Saves processor time in each Python that the tests start with this directory in PYTHONPATH.

Ansible sends a module as a zip file, which Python compiles anew at each run: half of the time of a short module. Here
the compiled code is kept, by a hash of the source, in the directory TRACKTION_TESTS_COMPILED. This changes no result.
"""

import gc
import os
import sys


def keep_compiled(directory):
    """Make imports from zip files use the code that is kept in ``directory``, and keep what they compile."""
    import zipimport

    compile_source = zipimport._compile_source
    zipimport._compile_source = lambda path, source: kept(directory, path, source, compile_source)


def kept(directory, path, source, compile_source):
    """Return the code of a source, which ``compile_source(path, source)`` compiles if it is not yet kept."""
    import _imp
    import marshal

    file = "%s/%s-%x" % (directory, _imp.source_hash(sys.hexversion, source).hex(), len(source))
    try:
        with open(file, "rb") as stream:
            code = marshal.loads(stream.read())
    except (OSError, EOFError, ValueError, TypeError):
        code = compile_source(path, source)
        write(file, marshal.dumps(code))
    else:
        # A traceback shows the file of this process.
        _imp._fix_co_filename(code, path)
    return code


def compile_module(source, filename, mode, flags, dont_inherit):
    """Replace compile() in Ansible's loader of collections, which compiles a module anew in each process."""

    def compile_source(path, text):
        return compile(text, path, mode, flags=flags, dont_inherit=dont_inherit)

    return kept(os.environ["TRACKTION_TESTS_COMPILED"], filename, source, compile_source)


def write(path, data):
    """Write a file that no other process sees half-written. Another user's process may not write here."""
    own = "%s.%d" % (path, os.getpid())
    try:
        with open(own, "wb") as file:
            file.write(data)
        os.rename(own, path)
    except OSError:
        pass


if "TRACKTION_TESTS_COMPILED" in os.environ:
    keep_compiled(os.environ["TRACKTION_TESTS_COMPILED"])
    # Processes of Ansible are short and create few cycles: a tenth of their time went into looking for them.
    gc.set_threshold(20000)
