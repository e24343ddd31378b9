"""What changes state, one module a verb: the typed Python side of what stands in `migrations/functions`.

Imported by the services' engines and by `messaging`; imports the domain and the connections.
"""
