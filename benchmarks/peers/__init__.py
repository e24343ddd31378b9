"""Tasker beside its peers, the same work on the same server; `make bench-peers` runs it.

Nothing here imports a peer: each is a program in `programs`, in an environment of its own, spoken to in lines of JSON.
"""
