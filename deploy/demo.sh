#!/bin/sh
# The demo against the deployment that deploy/up.sh started. Usage: deploy/demo.sh PYTHON STILLPOINT
set -eu
here=$(cd "$(dirname "$0")" && pwd)
secrets=${STILLPOINT_SECRETS:-$here/secrets}
. "$here/addresses.sh"
export STILLPOINT_CA="$secrets/ca.crt"
STILLPOINT_TOKEN_FILE=$(mktemp)
export STILLPOINT_TOKEN_FILE
trap 'rm -f "$STILLPOINT_TOKEN_FILE"' EXIT
"$2" dev-token "$secrets" --account demo >"$STILLPOINT_TOKEN_FILE"
"$1" "$here/../demo/run.py" --deployment
