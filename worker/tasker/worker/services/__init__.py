"""One thin servicer for each gRPC service of the worker port: parse, ask the runtime, render.

The only folder of the service that imports grpc. Methods not implemented yet answer UNIMPLEMENTED.
"""
