"""What the orchestrator does: create tasks, judge results, show what happens.

Knows neither gRPC nor SQL: it calls the operations and readers of `persistence`.
"""
