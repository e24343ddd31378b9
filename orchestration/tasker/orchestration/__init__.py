"""The orchestration service: decides what runs next.

Imports the packages of `shared/`, never `tasker.worker`.
"""
