"""Settings of the services, read from the environment.

Imported by compositions and the command line; imports the domain only.
"""
