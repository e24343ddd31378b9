"""Logs of the services.

Imported by compositions and the command line; imports nothing of ours.
"""
