"""The public handler API: how users write steps, and how they are found and run (spec 30 sections 4-7, 9).

Imports the domain and pydantic; never psycopg, grpc or the worker's runtime, which build on this.
"""
