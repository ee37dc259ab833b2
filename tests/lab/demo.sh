#!/usr/bin/env bash
# The main job end to end: a healthy stack, real faults, the diagnosis, and the remedies.
set -euo pipefail
cd "$(dirname "$0")/../.."

lab=tests/lab/lab
reports=${DEMO_REPORTS:-reports}
# At least one for each area. Remedies correct these,
faults=(blocked-transaction memory-full changed-limit)
# and no remedy can correct these: the right data, the right file, the files that are still needed and a program without its fault are
# not known. They come first: the services have to run for some.
by_hand=(unreadable-file poison-message api-wrong-answer errors-burst zombies full-temporary-directory)
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

# A blocked session is a finding after a minute, and a key is unused after a day; this demo does not wait that long. Remedies
# write to the folder of the lab. Of this machine's disks, only one that is really full is a finding.
settings=$folder/demo.yml
cat >"$settings" <<EOF
---
database_blocked_seconds_warning: 2
database_idle_in_transaction_warning: 2
cache_delete_idle_seconds: 0
cache_delete_max_count: 5000
host_resources_space_info: 0.98
host_resources_space_warning: 0.98
host_resources_space_critical: 0.98
file_watching_sysctl_root: $folder/root
tracktion_state_dir: $folder/state
EOF
# Remedies are not repeated within their cooldown: each demo begins with an empty audit log.
rm -rf "$folder/state" "$folder/root"
mkdir -p "$folder/root/etc/sysctl.d"

# What only root can see is unknown to other users, and only root can break the files of a container.
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

say "Diagnose the healthy stack: no finding may be worse than $at_worst"
play diagnose -e tracktion_fail_at=$fail_at

say "Break it: ${by_hand[*]} ${faults[*]}"
for fault in "${by_hand[@]}" "${faults[@]}"; do
  $lab break "$fault"
done

say "Diagnose the broken stack"
play diagnose

say "Remediate: sessions and services may be interrupted; of all data, only the keys lab:* may be deleted"
play remediate -e tracktion_remediate_risk=destructive -e '{"tracktion_confirm": ["cache.delete_keys:0:lab:*"]}' \
  -e cache_maxmemory_raise=true

say "No remedy can guess the rest; correct it by hand: ${by_hand[*]}"
$lab mend "${by_hand[@]}"

say "Diagnose again: no finding may be worse than $at_worst"
play diagnose -e tracktion_fail_at=$fail_at

cat <<EOF

The reports are in $reports: report.json is the last one, audit.jsonl lists the actions.
Diagnose again:        make diagnose INVENTORY=\$($lab inventory)
Break another:      $lab faults; $lab break NAME; $lab mend --all
Take the lab down:  $lab down --all
EOF
