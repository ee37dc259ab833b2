# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Public functions and methods of the collection have docstrings."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
PACKAGE = "ansible_collections.tracktion.ops.plugins"
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def public(tree):
    """Yield ``(name of the class or None, node)`` of the public functions and methods of a module.

    ``main`` of a module is wiring. A setter and the variants of an overloaded function are documented at the function.
    """
    for node in tree.body:
        if (
            isinstance(node, FUNCTION)
            and not node.name.startswith("_")
            and node.name != "main"
            and not is_variant(node)
        ):
            yield None, node
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, FUNCTION) and not method.name.startswith("_") and not is_variant(method):
                    yield node.name, method


def is_variant(node):
    names = {getattr(each, "attr", None) or getattr(each, "id", None) for each in node.decorator_list}
    return bool(names & {"setter", "overload"})


def overrides_documented(path, class_name, name):
    """Return whether a base class, of this collection or of a library, documents the method."""
    module = importlib.import_module("%s.%s" % (PACKAGE, ".".join(path.relative_to(PLUGINS).with_suffix("").parts)))
    bases = getattr(module, class_name).__mro__[1:]
    return any(getattr(base.__dict__.get(name), "__doc__", None) for base in bases)


def undocumented(path):
    """Return the public functions of a file without a docstring."""
    found = []
    for class_name, node in public(ast.parse(path.read_text(encoding="utf-8"))):
        if ast.get_docstring(node):
            continue
        if class_name is None or not overrides_documented(path, class_name, node.name):
            found.append(
                "%s:%d %s" % (path.relative_to(PLUGINS), node.lineno, ".".join(filter(None, (class_name, node.name))))
            )
    return found


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=lambda path: str(path.relative_to(PLUGINS)))
def test_public_functions_have_docstrings(path):
    assert undocumented(path) == []


def test_a_function_without_a_docstring_is_found(tmp_path, monkeypatch):
    path = tmp_path / "made.py"
    path.write_text(
        "def seen():\n    pass\n\n\ndef _own():\n    pass\n\n\nclass A:\n    def __init__(self):\n        pass\n"
    )
    monkeypatch.setattr("%s.PLUGINS" % __name__, tmp_path)
    assert undocumented(path) == ["made.py:1 seen"]
