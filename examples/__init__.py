"""Workflows to read, run and copy. One module of handlers for each subject, one folder for each template."""
