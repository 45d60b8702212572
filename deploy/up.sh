#!/bin/sh
# Prepares the secrets, builds the image, starts the deployment and waits until every service is healthy; then says how to
# reach it. Further arguments are compose's: deploy/up.sh --scale compute_svc=2 --scale snapshot_svc=2
# STILLPOINT is the command line's path (default: stillpoint).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
secrets=${STILLPOINT_SECRETS:-$here/secrets}
patience_seconds=180

"$here/secrets.sh" "$secrets" "${STILLPOINT:-stillpoint}"
"$here/compose" build migrate
"$here/compose" up -d "$@"

began=$(date +%s)
for service in compute_svc disk_svc snapshot_svc; do
    for container in $("$here/compose" ps -q "$service"); do
        until [ "$(docker inspect --format '{{.State.Health.Status}}' "$container")" = healthy ]; do
            if [ $(($(date +%s) - began)) -ge $patience_seconds ]; then
                echo "deploy: $service is not healthy after $patience_seconds s; see \`deploy/compose logs $service\`" >&2
                exit 1
            fi
            sleep 1
        done
        echo "$service is healthy"
    done
done
cat <<EOF

The deployment serves. \`make demo-compose\` runs the main job against it; for a session of your own:
  export STILLPOINT_CA=$secrets/ca.crt
  . $here/addresses.sh
  stillpoint dev-token $secrets --account team-a | stillpoint login
EOF
