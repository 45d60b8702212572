"""What the three services share: server start-up, errors, idempotency, paging, database, and the saga engine."""
