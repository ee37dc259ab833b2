# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab at the command line."""
from __future__ import annotations

import argparse
import sys

from . import engine, images, servers
from .shell import LabError, say


def main(words: list[str] | None = None) -> int:
    """Run one command of the lab and return its exit code."""
    arguments = parser().parse_args(words)
    try:
        arguments.command(arguments)
    except LabError as error:
        say(f"lab: {error}")
        return 1
    except KeyboardInterrupt:
        say("lab: interrupted")
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="lab", description=sys.modules[__package__].__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(function, name: str, *options: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=function.__doc__, description=function.__doc__, parents=options)
        sub.set_defaults(command=function)
        return sub

    setup_options = command(setup, "setup")
    setup_options.add_argument("--suite", choices=images.SUITES, help="build this image only")
    sweep_options = command(sweep, "sweep")
    sweep_options.add_argument("--all", action="store_true", help="also those whose process still runs")
    return top


def setup(arguments: argparse.Namespace) -> None:
    """Make sure of the engine, compose v2 and the images."""
    engine.ensure()
    engine.compose_command()
    for suite in [arguments.suite] if arguments.suite else images.SUITES:
        say(f"  image {images.ensure_image(suite)}")


def sweep(arguments: argparse.Namespace) -> None:
    """Remove single servers that a killed test left behind."""
    for name in servers.sweep(arguments.all):
        say(f"  removed {name}")
