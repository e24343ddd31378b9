"""The public handler API: how users write steps, and how they are found and run.

Imports the domain and pydantic; never psycopg, grpc or the worker's runtime, which build on this.
"""
