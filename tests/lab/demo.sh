#!/usr/bin/env bash
# The main job end to end: a healthy stack, four real faults in it, and what a diagnosis says about them.
set -euo pipefail
cd "$(dirname "$0")/../.."

lab=tests/lab/lab
reports=${DEMO_REPORTS:-reports}
faults=(blocked-transaction memory-full queue-without-consumer watches-exhausted)

say() { printf '\n=== %s\n' "$*"; }

diagnose() {
  ansible-playbook playbooks/diagnose.yml -i "$($lab inventory)" -e "tracktion_report_dir=$reports" "$@"
}

say "Bring up the lab: PostgreSQL, Redis, RabbitMQ and three small services, in containers"
$lab up
$lab mend --all

say "Diagnose the healthy stack: nothing may be worse than ok"
diagnose -e tracktion_fail_at=info

say "Break it, for real: ${faults[*]}"
for fault in "${faults[@]}"; do
  $lab break "$fault"
done

say "Diagnose the broken stack (a blocked session is a finding after a minute; this demo does not wait that long)"
diagnose -e database_blocked_seconds_warning=2 -e database_idle_in_transaction_warning=2

cat <<EOF

The report lies in $reports/report.json.
Mend the faults:    $lab mend --all
Look again:         make diagnose INVENTORY=\$($lab inventory)
Take the lab down:  $lab down --all
EOF
