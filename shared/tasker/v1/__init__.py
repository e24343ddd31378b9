"""The wire contract `tasker.v1`: code generated from proto/ by `make proto`, never edited.

Only rpc/, services/ and client/ import it; the domain has types of its own.
"""
