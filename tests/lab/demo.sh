#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Bring up the lab, break it in four ways, diagnose it, and mend it. The stack stays up: tests/lab/lab down.
set -eu
cd "$(dirname "$(readlink -f "$0")")/../.."

tests/lab/lab up
trap 'tests/lab/lab mend --all' EXIT
tests/lab/lab break blocked-transaction memory-full queue-without-consumer watches-exhausted
ansible-playbook playbooks/diagnose.yml -i "$(tests/lab/lab inventory)" "$@"
