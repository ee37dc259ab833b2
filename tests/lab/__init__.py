# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway Tracktion-like compose stack on a real Docker engine, and faults to break it with."""
