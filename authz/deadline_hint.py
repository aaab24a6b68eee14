"""A line in the log, once, when Envoy waits for less than an exchange may take."""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)


class DeadlineHint:
    """Looks at how long Envoy waits for answers that have to be worked out.

    ``wanted_s``: the shortest wait that is long enough (``--hint-timeout``); 0: any is.
    """

    def __init__(self, wanted_s: float) -> None:
        self._wanted_s = wanted_s

    def look(self, waits_s: float) -> None:
        """Log the first wait that is too short, in seconds."""
        if waits_s >= self._wanted_s:
            return
        _log.warning(
            "Envoy waits only %.3g s for authz, and at least %g s are wanted (--hint-timeout): "
            "a caller whose exchange at the identity provider takes longer gets 503 "
            "deadline_exceeded. Raise the timeout of ext_authz's grpc_service in Envoy. "
            "This is logged once",
            waits_s,
            self._wanted_s,
        )
        self._wanted_s = 0.0
