"""What tests stand on: servers, databases, the engine driven by hand, services, the command as a process.

No test lives here, and nothing but tests imports it.
"""
