"""The `tasker` command: one module for each of its nouns, what they share beside them.

May import everything of ours; nothing of ours imports it.
"""

import os

# Both are read when grpc is imported, so they stand here, before any module of ours.
# grpc writes lines of its own to stderr, on a busy port for one. What matters reaches us as an error, and we say it in
# one line.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# We fork to run PostgreSQL's programs. grpc's fork handlers, meant for children that go on to use grpc, hang now and
# then in the child or the parent if other threads are at work; a child that execs at once needs none.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
