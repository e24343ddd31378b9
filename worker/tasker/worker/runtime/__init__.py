"""Consume, execute, submit: what a worker process does.

Calls the broker and the handlers; knows neither gRPC nor SQL.
"""
