"""Who may do what: roles (what each RPC needs), tokens (who a client is), identity (who a service is)."""
