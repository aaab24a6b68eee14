"""``python -m authz.workers``: one worker.  Only a supervisor can start it."""

from __future__ import annotations

import sys

from authz.workers.worker import main

sys.exit(main())
