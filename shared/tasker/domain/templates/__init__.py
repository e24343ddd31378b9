"""Workflow templates: read, check, resolve for an environment, plan as steps.

Pure, as all of `tasker.domain`; pydantic describes the document, since it comes from outside.
"""
