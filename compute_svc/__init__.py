"""compute_svc owns instances, the lease on each while an operation works on it, and the standing of accounts."""
