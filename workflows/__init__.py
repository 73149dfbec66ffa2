"""The state machine, the embedded cloud that runs it here, and the command line."""
