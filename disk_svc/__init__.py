"""disk_svc owns CDS disks, their snapshots and quotas, consistency points, and the bytes."""
