"""Seeing inside a service: what it counts (metrics), where a request went (traces), and what each line of its log is about
(requests).

- exposition.py: the registry of a service, and the port where Prometheus reads it;
- requests.py: the interceptor before the edge: counts every RPC, and binds its ids to the lines of the log;
- pools.py: how much of what is bounded is in use;
- traces.py: OpenTelemetry, off by default and not even imported then.

What is known of sagas is in svckit/saga/instruments.py, of quotas and the block store in disk_svc/metrics.py.
"""
