"""The use cases of disk_svc, a room each: disks, snapshots, points, reservations, blocks, and what doctor asks."""
