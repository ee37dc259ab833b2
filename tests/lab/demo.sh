#!/usr/bin/env bash
# The main job end to end: a healthy stack, real faults in it, what a diagnosis says about them, and the remedies.
set -euo pipefail
cd "$(dirname "$0")/../.."

lab=tests/lab/lab
reports=${DEMO_REPORTS:-reports}
# One for each area at least: the remedies answer these,
faults=(blocked-transaction memory-full queue-without-consumer changed-limit)
# and these no remedy does, by design: what the right name server, the right artist or the right file is, a person knows.
by_hand=(api-wrong-answer errors-burst)
watches=/proc/sys/fs/inotify/max_user_watches

say() { printf '\n=== %s\n' "$*"; }

play() {
  local name=$1
  shift
  ansible-playbook "playbooks/$name.yml" -i "$($lab inventory)" -e "tracktion_report_dir=$reports" -e "@$settings" "$@"
}

# The limit is the kernel's, and so the whole machine's: it is put back when the demo ends, however it ends.
put_back() {
  if [ -n "${limit:-}" ] && [ "$(cat $watches)" != "$limit" ]; then
    $lab mend --all >/dev/null 2>&1 || true
    echo "$limit" >$watches
    say "fs.inotify.max_user_watches of this machine is $limit again"
  fi
}
trap put_back EXIT

say "Bring up the lab: PostgreSQL, Redis, RabbitMQ and three small services, in containers"
$lab up
$lab mend --all
folder=$(dirname "$($lab inventory)")

# A blocked session is a finding after a minute, and a key is unused after a day; this demo does not wait that long. What
# the remedies write stays in the lab's folder.
settings=$folder/demo.yml
cat >"$settings" <<EOF
---
database_blocked_seconds_warning: 2
database_idle_in_transaction_warning: 2
cache_delete_idle_seconds: 0
cache_delete_max_count: 5000
file_watching_sysctl_root: $folder/root
tracktion_state_dir: $folder/state
EOF
# A host remembers what was done to it, and does not do it again at once: each demo has a host without a past.
rm -rf "$folder/state" "$folder/root"
mkdir -p "$folder/root/etc/sysctl.d"

# What only root may see is unknown to anybody else, and the files of a container are root's to break.
at_worst=ok fail_at=info
if [ "$(id -u)" != 0 ]; then
  at_worst=unknown fail_at=warning
else
  by_hand+=(dns-broken)
fi
if [ -w $watches ]; then
  limit=$(cat $watches)
  faults+=(watches-exhausted)
fi

say "Diagnose the healthy stack: nothing may be worse than $at_worst"
play diagnose -e tracktion_fail_at=$fail_at

say "Break it, for real: ${faults[*]} ${by_hand[*]}"
for fault in "${faults[@]}" "${by_hand[@]}"; do
  $lab break "$fault"
done

say "Diagnose the broken stack"
play diagnose

say "Remediate: sessions and services may be interrupted, and of the data only the keys lab:* may go"
play remediate -e tracktion_remediate_risk=destructive -e '{"tracktion_confirm": ["cache.delete_keys:0:lab:*"]}'

say "What is still there no remedy may guess; a person mends it: ${by_hand[*]}"
$lab mend "${by_hand[@]}"

say "Diagnose once more: nothing may be worse than $at_worst"
play diagnose -e tracktion_fail_at=$fail_at

cat <<EOF

The reports lie in $reports: report.json is the last one, audit.jsonl lists the actions.
Look again:         make diagnose INVENTORY=\$($lab inventory)
Break another:      $lab faults; $lab break NAME; $lab mend --all
Take the lab down:  $lab down --all
EOF
