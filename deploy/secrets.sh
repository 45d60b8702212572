#!/bin/sh
# Makes what is missing in the folder of secrets: passwords of the databases, and a small CA with what it signs.
# Usage: deploy/secrets.sh FOLDER STILLPOINT
set -eu
folder=$1
stillpoint=$2

# Nobody but the owner comes into the folder. What is in it is mounted into containers file by file, for users that have other
# numbers than the owner: so the files that they need can be read by all who get that far.
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

for service in compute_svc disk_svc snapshot_svc; do
    password=$folder/${service}_database_password
    if [ ! -s "$password" ]; then
        head -c 24 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n' >"$password"
    fi
    chmod 444 "$password"
done

if [ ! -s "$folder/ca.crt" ]; then
    "$stillpoint" dev-certs "$folder"
fi
chmod 444 "$folder/jwks.json" "$folder"/*.crt
for name in public compute_svc disk_svc snapshot_svc operator; do
    chmod 444 "$folder/$name.key"
done
