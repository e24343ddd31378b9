"""What changes the state of tasks and steps, and of what belongs to them.

A module that calls functions of SQL is the typed Python side of one file in `migrations/functions/`, and has its name;
a statement of its own stands only where nothing of the engine is touched. Where a function takes a `Transaction`, what
it relies on was locked in it.
"""
