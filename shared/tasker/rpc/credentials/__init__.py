"""Whether a credential is genuine and what it grants: API keys, tokens, and the keys that tokens are signed with.

Knows permissions and nothing of gRPC; imported where a server is built, and by the command that makes credentials.
"""
