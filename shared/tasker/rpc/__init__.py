"""How a gRPC server is built: transport options, errors, health, reflection, who is let in, TLS.

Only the services and the entry points import it. It knows the domain's errors and the settings of security, and
nothing else of ours; no other folder but services/, client/ and v1/ imports grpc.
"""
