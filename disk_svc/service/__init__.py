"""The use cases of disk_svc, a room each: disks, snapshots, points, reservations, blocks, copies to another region
(copies, transfer) and from one (imports), and what doctor asks.
"""
