"""Named queries on disk_svc's tables, a room for each kind of row."""
