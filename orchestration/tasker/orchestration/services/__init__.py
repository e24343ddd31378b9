"""One thin servicer for each gRPC service: parse, call the engine, render.

The only folder of the service that imports grpc. Methods not implemented yet answer UNIMPLEMENTED.
"""
