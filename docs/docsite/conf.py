# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configuration of Sphinx for the documentation site, which `make docs` builds."""

project = "tracktion.ops"
copyright = "The tracktion.ops maintainers"  # noqa: A001
html_title = "tracktion.ops"
html_short_title = "tracktion.ops"

extensions = ["sphinx_antsibull_ext", "myst_parser"]
# Headings can be linked to as on GitHub: architecture.md#check-row.
myst_heading_anchors = 4

html_theme = "sphinx_ansible_theme"
html_show_sphinx = False
html_use_index = False
html_copy_source = False
pygments_style = "ansible"
highlight_language = "YAML+Jinja"
default_role = "any"

# Every reference has to resolve, but those to the documentation of Ansible and of other collections:
# the build needs no network.
nitpicky = True
nitpick_ignore_regex = [
    ("std:ref", r"ansible_collections\.(?!tracktion\.ops\.).*"),
    ("std:ref", r"action_plugins|ansible_configuration_settings|common_return_values"),
]
