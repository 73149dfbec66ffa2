"""What a performance claim is measured again with: each module is a command that takes ``--json``."""
