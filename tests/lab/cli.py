# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab at the command line."""

from __future__ import annotations

import argparse
import json
import sys

from . import audio_library, engine, holder, images, servers
from . import faults as registry
from . import hosts as fleet
from .shell import LabError, say
from .stack import Stack, all_stacks


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
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", help="which stack, where there are several side by side (default: $LAB_NAME)")
    of_suite = argparse.ArgumentParser(add_help=False)
    of_suite.add_argument("--suite", choices=images.SUITES, help="Debian release whose servers to use")

    def command(function, *options: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            function.__name__.rstrip("_"), help=function.__doc__, description=function.__doc__, parents=options
        )
        sub.set_defaults(command=function)
        return sub

    command(setup, of_suite)
    command(up, named, of_suite)
    command(down, named).add_argument(
        "--all", action="store_true", help="every stack, and the engine if the lab started it"
    )
    command(status, named)
    command(inventory, named)
    of_hosts = command(hosts, named, of_suite)
    of_hosts.add_argument("count", type=int, help="how many there shall be; 0 removes them")
    of_hosts.add_argument("--docker-socket", action="store_true", help="let the hosts speak to this machine's engine")
    command(faults)
    command(break_, named).add_argument("faults", nargs="+", metavar="FAULT")
    of_mend = command(mend, named)
    of_mend.add_argument("faults", nargs="*", metavar="FAULT")
    of_mend.add_argument("--all", action="store_true", help="everything that is broken")
    command(sweep).add_argument("--all", action="store_true", help="also those whose process still runs")
    return top


def setup(arguments: argparse.Namespace) -> None:
    """Make sure of the engine, compose v2, the images and the audio library."""
    engine.ensure()
    engine.compose_command()
    for suite in [arguments.suite] if arguments.suite else images.SUITES:
        say(f"  image {images.ensure_image(suite)}")
        say(f"  audio library {audio_library.ensure_audio_library(suite)}")


def up(arguments: argparse.Namespace) -> None:
    """Bring the stack up and wait until it is healthy."""
    stack = Stack(arguments.name)
    stack.up(arguments.suite)
    say(f"  inventory: {stack.inventory}")


def down(arguments: argparse.Namespace) -> None:
    """Remove the stack and everything it made."""
    for stack in all_stacks() if arguments.all else [Stack(arguments.name)]:
        holder.release(stack)
        stack.down()
        say(f"  {stack.project} is gone")
    if arguments.all:
        if engine.answers():
            servers.sweep()
        engine.stop()


def status(arguments: argparse.Namespace) -> None:
    """Show each service's health and address, as JSON."""
    stack = Stack(arguments.name)
    health = stack.health() if stack.exists else {}
    print(
        json.dumps(
            {
                "project": stack.project,
                "suite": stack.state["suite"] if stack.exists else None,
                "services": health,
                "faults": list(holder.held(stack)),
                "ports": stack.ports if stack.exists else {},
            },
            indent=2,
        )
    )
    if not health or set(health.values()) != {"healthy"}:
        raise LabError(f"{stack.project} is not healthy" if health else f"{stack.project} is down")


def inventory(arguments: argparse.Namespace) -> None:
    """Print the path of the stack's inventory, for ansible-playbook -i."""
    stack = Stack(arguments.name)
    if not stack.exists:
        raise LabError(f"{stack.project} is down; first: lab up{stack.option}")
    print(stack.inventory)


def hosts(arguments: argparse.Namespace) -> None:
    """Start or remove managed hosts (containers with sshd) until there are COUNT; prints their inventory's path."""
    print(fleet.scale(Stack(arguments.name), arguments.count, arguments.suite, arguments.docker_socket))


def faults(arguments: argparse.Namespace) -> None:
    """List the faults: name, what is broken, and the checks that have to notice."""
    for fault in registry.every().values():
        print(f"{fault.area:<14} {fault.name:<24} {fault.summary}\n{'':<40}fires {', '.join(fault.fires)}")


def break_(arguments: argparse.Namespace) -> None:
    """Break something, and keep it broken until it is mended."""
    for name in arguments.faults:
        holder.break_(Stack(arguments.name), name)


def mend(arguments: argparse.Namespace) -> None:
    """Mend what `break` has broken."""
    stack = Stack(arguments.name)
    names = list(holder.held(stack)) if arguments.all else arguments.faults
    if not names and not arguments.all:
        raise LabError(f"mend what? held: {', '.join(holder.held(stack)) or 'nothing'}")
    for name in names:
        holder.mend(stack, name)


def sweep(arguments: argparse.Namespace) -> None:
    """Remove single servers that a killed test left behind."""
    for name in servers.sweep(arguments.all):
        say(f"  removed {name}")
