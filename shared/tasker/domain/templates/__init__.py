"""Workflow templates: read, check, resolve for an environment, plan as steps (spec 40 sections 1 to 4).

Pure, as all of `tasker.domain`; pydantic describes the document, since it comes from outside.
"""
