"""snapshot_svc owns instance snapshots, and the sagas that create them, roll back to them and delete them."""
