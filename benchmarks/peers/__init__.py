"""What else moves bytes over loopback: each in its own process or processes, timed the same way.

``nixl_write`` and ``mooncake_write`` import nothing of ours, for they run under the Python of another environment.
"""
