"""What changes the state of tasks and steps, and of what belongs to them: one module a verb.

Each is the typed Python side of the file of that name in `migrations/functions/`. Imported by the engines and by
`messaging`. Where a function takes a `Transaction`, what it relies on was locked in it.
"""
