"""What tests stand on: servers, databases, the engine driven by hand, services, commands, what makes them suffer.

No test lives here, and nothing but tests imports it.
"""
