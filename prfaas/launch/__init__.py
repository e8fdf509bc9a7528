"""Starting and stopping processes: the vLLM command line, a local stack, the demo. Linux only, as vLLM is."""
