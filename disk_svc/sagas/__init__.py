"""The sagas of disk_svc: small ones, with the block store, or the disk_svc of another region, as their participant.

Rows are changed by the transaction that accepts each (first) and by the commits that end its steps (last); the steps
themselves are about bytes.
"""
