"""``python -m workflows.embedded_cloud``: the server process."""

from __future__ import annotations

import sys

from workflows.embedded_cloud.server import main

sys.exit(main())
