"""The `tasker` command: one module for each of its nouns, what they share beside them.

May import everything of ours; nothing of ours imports it.
"""

import os

# grpc writes lines of its own to stderr, on a busy port and at each fork (we fork to run PostgreSQL's programs). What
# matters reaches us as an error, and we say it in one line.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
