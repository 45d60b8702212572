"""The RPCs of disk_svc, a room for each service: proto to use case and back. No SQL, no rules."""
