"""The agent: starts and watches this node's children, and tells systemd the truth about them.

It does not speak Redis and never imports user code.
"""
