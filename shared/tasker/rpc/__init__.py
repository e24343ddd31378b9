"""How a gRPC server is built: transport options, errors, health, reflection.

Only the services and the entry points import it. It knows the domain's errors and nothing else of ours; no
other folder but services/, client/ and v1/ imports grpc.
"""
