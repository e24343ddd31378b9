"""How steps travel between the services: the port both sides use and its adapters.

Imported by the engines; together with `persistence` the only place that knows psycopg.
"""
