"""PostgreSQL: connections, migrations, the embedded server for development, and the queries of the services.

Imported by the services' engines and by `messaging`; the only place that knows psycopg.
"""
