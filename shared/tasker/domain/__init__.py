"""The rules of the engine: states, retry, results, identity, templates. No I/O, no clock, no grpc.

Everything of ours may import this package; it imports nothing of ours. `uuids` alone reads the time, for
UUIDv7.
"""
