"""authz and Envoy as an operator runs them: two processes, started from one decK file."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

import yaml
from support.curl import curl

from authz.credentials import basic
from authz.demo.parts import (
    LOOPBACK,
    POLL_SECONDS,
    Authz,
    Envoy,
    answers,
    authz_command,
    authz_environment,
    free_port,
)
from authz.demo.stage import IDP_HOSTS, connect_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Self

    from support.curl import Reply
    from support.transports import Name

    Change = Callable[[dict[str, Any]], None]

EXT_AUTHZ = "envoy.filters.http.ext_authz"

_JWT = re.compile(r"eyJ[\w-]{10,}\.[\w-]{10,}")


class Edge(Envoy):
    """Envoy with a bootstrap that ``authz envoy`` printed, on ports of its own."""

    def __init__(self, bootstrap: dict[str, Any], *changes: Change) -> None:
        bootstrap = copy.deepcopy(bootstrap)
        for change in changes:
            change(bootstrap)
        self.port, admin = free_port(), free_port()
        listener = bootstrap["static_resources"]["listeners"][0]
        listener["address"]["socket_address"]["port_value"] = self.port
        bootstrap["admin"]["address"]["socket_address"]["port_value"] = admin
        super().__init__(json.dumps(bootstrap), admin)

    def curl(self, path: str, **request: Any) -> Reply:
        """Make a request as a caller does; see ``support.curl``."""
        return curl(self.port, path, **request)

    def stats(self) -> str:
        """Return Envoy's counters and gauges, one `name: value` a line."""
        return curl(self.admin, "/stats").text

    def access_log(self) -> list[dict[str, Any]]:
        """Return the access log's lines; whole only after the stop, for Envoy buffers them."""
        return json_lines(self.output())


class Deployment:
    """``authz serve`` with one file, and the bootstrap that belongs to it.

    Usable as a context manager, which starts authz and waits for it.  At the end
    nothing secret may stand in what authz has written.
    """

    def __init__(
        self,
        config: Path,
        *,
        transport: Name,
        idp_port: int,
        services: Mapping[str, int],
        listen: str | None = None,
        flags: Iterable[str] = (),
        envoy_flags: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        secrets: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.config = config
        self.transport = transport
        self.listen = listen or f"{LOOPBACK}:{free_port()}"
        self.admin_port = free_port()
        self._env = dict(env or {})
        self._secrets = list(secrets)
        connect = connect_to(dict.fromkeys(IDP_HOSTS, idp_port))
        self.authz = Authz(
            [
                "serve",
                *("-c", str(config)),
                *("--listen", self.listen),
                *("--admin", f"{LOOPBACK}:{self.admin_port}"),
                *("--transport", transport),
                *connect,
                *flags,
            ],
            ready_url=self.admin_url("/readyz"),
            env=self._env,
        )
        self.bootstrap = self._bootstrap(services, envoy_flags)

    def _bootstrap(self, services: Mapping[str, int], flags: Iterable[str]) -> dict[str, Any]:
        command = authz_command("envoy", "-c", str(self.config), "--authz", self.listen)
        done = subprocess.run(  # noqa: S603 - a list, and no shell
            [*command, *connect_to(services), *flags],
            env=authz_environment() | self._env,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        bootstrap: dict[str, Any] = yaml.safe_load(done.stdout)
        return bootstrap

    def edge(self, *changes: Change) -> Edge:
        """Return an Envoy in front of this authz, with these changes to its bootstrap."""
        return Edge(self.bootstrap, *changes)

    def admin_url(self, path: str) -> str:
        return f"http://{LOOPBACK}:{self.admin_port}{path}"

    def metric(self, series: str) -> float:
        """Return one series of ``/metrics``, written as there."""
        for line in curl(self.admin_port, "/metrics").text.splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        raise LookupError(series)

    def total(self, beginning: str) -> float:
        """Return the sum of all series of ``/metrics`` that begin like this, 0 without any."""
        lines = curl(self.admin_port, "/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(beginning))

    def denied(self, reason: str) -> float:
        """Return how often authz has denied for this reason."""
        return self.total(f'authz_checks_total{{reason="{reason}",verdict="deny"}}')

    @property
    def live(self) -> bool:
        """Whether the process is up, ready or not."""
        return answers(self.admin_url("/livez"))

    def denials(self) -> list[str]:
        """Return the reasons that authz has logged so far."""
        lines = json_lines(self.authz.output())
        return [line["reason"] for line in lines if line["message"] == "denied"]

    def check_nothing_leaked(self) -> None:
        told = self.authz.output()
        assert_no_secret_in(told, self._secrets)

    def __enter__(self) -> Self:
        self.authz.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.authz.stop()
        self.check_nothing_leaked()


def authz_check(
    config: Path, idp_port: int, user: tuple[str, str], url: str
) -> tuple[int, list[str]]:
    """Run ``authz check`` for one request; return its exit code and its lines."""
    hosts = connect_to(dict.fromkeys(IDP_HOSTS, idp_port))
    done = subprocess.run(  # noqa: S603 - a list, and no shell
        [*authz_command("check", "-c", str(config)), *hosts, "-u", user[0], url],
        # Not on the command line, where every process of the machine could read it.
        env=authz_environment() | {"AUTHZ_CHECK_SECRET": user[1]},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def assert_no_secret_in(text: str, clients: Iterable[tuple[str, str]]) -> None:
    """No client's secret, no Basic credential of theirs, and no token."""
    for client_id, secret in clients:
        assert secret not in text
        assert basic(client_id, secret).removeprefix("Basic ") not in text
    assert not _JWT.search(text)


def json_lines(text: str) -> list[dict[str, Any]]:
    """Return the lines that are JSON objects."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def until(condition: Callable[[], object], *, within_s: float = 20) -> None:
    """Return once the condition holds: other processes tell nobody when they are done."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s"
        time.sleep(POLL_SECONDS)


# --- Changes to a bootstrap -------------------------------------------------------


def ext_authz(**fields: Any) -> Change:
    """Set fields of the ext_authz filter; ``timeout`` is that of one Check."""

    def change(bootstrap: dict[str, Any]) -> None:
        listener = bootstrap["static_resources"]["listeners"][0]
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        found = (each for each in manager["http_filters"] if each["name"] == EXT_AUTHZ)
        config = next(found)["typed_config"]
        timeout = fields.get("timeout")
        if timeout is not None:
            config["grpc_service"]["timeout"] = timeout
        config.update({name: value for name, value in fields.items() if name != "timeout"})

    return change


def upstream(cluster: str, port: int) -> Change:
    """Send a service's requests to another loopback port."""

    def change(bootstrap: dict[str, Any]) -> None:
        clusters = bootstrap["static_resources"]["clusters"]
        (found,) = (each for each in clusters if each["name"] == cluster)
        (locality,) = found["load_assignment"]["endpoints"]
        (host,) = locality["lb_endpoints"]
        found["type"] = "STATIC"
        address = {"address": LOOPBACK, "port_value": port}
        host["endpoint"]["address"] = {"socket_address": address}

    return change
