"""Queues: their names, in which order a worker looks at them, and the brokers that move work through them.

Imported by the engine, the loops and the runtime. What they move is changed by `persistence.operations`.
"""
