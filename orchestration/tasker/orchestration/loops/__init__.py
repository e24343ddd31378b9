"""The background loops: one small class each, with a single `tick()` that tests call alone.

Any number of orchestrators may run all of them at once. Imported by the service's composition only.
"""
