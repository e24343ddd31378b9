"""What only reads, one module a noun, each statement in a `.sql` file beside it.

An answer that is made of several statements is one picture: they read the same snapshot.

Imported by the services and their engines; imports the domain and the connections, and changes nothing.
"""
