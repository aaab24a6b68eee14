"""What every object has, and where authz is in the cluster."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from authz import yaml_writer
from authz.model import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from authz.model import Gateway

T = TypeVar("T")

Object = dict[str, Any]

GATEWAY_API = "gateway.networking.k8s.io"
ENVOY_GATEWAY = "gateway.envoyproxy.io"

CHECK_TIMEOUT = "5s"
"""Of one Check: a first exchange with the identity provider fits in."""
STATUS_ON_ERROR = 503
"""What a caller gets when authz is away; 403, the default, would blame the caller."""

# The rest of Kubernetes' 253 characters is for what is put behind a name.
NAME_CHARS_MAX = 200
_NAME = re.compile(
    rf"(?=.{{1,{NAME_CHARS_MAX}}}$)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"
)
_OTHERS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class AuthzService:
    """The Service of authz, as the overlay ``shared`` makes it, and whether it speaks TLS.

    The certificate of its authority is in the ConfigMap ``authz-ca``, beside the Service.
    """

    name: str = "authz"
    namespace: str = "authz"
    port: int = 9191
    tls: bool = True

    @property
    def host(self) -> str:
        """The name in its certificate."""
        return f"{self.name}.{self.namespace}.svc"


AUTHZ = AuthzService()
CA = "authz-ca"


def in_cluster(host: str) -> tuple[str, str | None] | None:
    """Return the name and the namespace of a Service; ``None``: the host is no Service's.

    A host without dots is a Service in the namespace of who asks.
    """
    labels = host.removesuffix(".").removesuffix(".cluster.local").split(".")
    if len(labels) == 1:
        return labels[0], None
    if len(labels) == 3 and labels[2] == "svc":  # noqa: PLR2004 - name, namespace, svc
        return labels[0], labels[1]
    return None


def object_name(text: str) -> str:
    """Return the name of an object for one of Kong's names, which may have any characters.

    A name that Kubernetes takes stays as it is.  Of another one the letters and digits are
    left, and a digest of it, so that two never become one.
    """
    if _NAME.fullmatch(text):
        return text
    digest = hashlib.blake2s(text.encode(), digest_size=4).hexdigest()
    readable = _OTHERS.sub("-", text.lower()).strip("-")[: NAME_CHARS_MAX - 10]
    return f"{readable}-{digest}" if readable else f"kong-{digest}"


def bunches(each: Sequence[T], most: int) -> Iterator[list[T]]:
    """Yield lists of at most so many, in order."""
    for start in range(0, len(each), most):
        yield list(each[start : start + most])


class Names:
    """The names of objects of one kind: each is given once."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._taken = set(reserved)

    def take(self, name: str) -> str:
        """Return the name, or with the first number behind it that nobody has."""
        number, free = 1, name
        while free in self._taken:
            number += 1
            free = f"{name}-{number}"
        self._taken.add(free)
        return free


def made(
    kind: str,
    name: str,
    namespace: str,
    spec: Object,
    *,
    api: str,
    annotations: dict[str, str] | None = None,
) -> Object:
    """Return an object with a spec."""
    metadata: Object = {"name": name, "namespace": namespace}
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}


def reference_grant(
    name: str, namespace: str, froms: Iterable[tuple[str, str, str]], service: str
) -> Object:
    """Let objects (group, kind, namespace) of other namespaces refer to a Service of this one."""
    spec = {
        "from": [{"group": g, "kind": k, "namespace": n} for g, k, n in froms],
        "to": [{"group": "", "kind": "Service", "name": service}],
    }
    return made("ReferenceGrant", name, namespace, spec, api=f"{GATEWAY_API}/v1beta1")


def unwritten(gateway: Gateway) -> Iterator[Diagnostic]:
    """Yield the plugins of the file whose work nothing that is written does."""
    for plugin in gateway.others:
        scope = f" (for {plugin.owner})" if plugin.owner else ""
        message = (
            f"{plugin.name}{scope} is not written: requests pass as if it were not there; let a "
            "policy of the gateway's or the application do its work"
        )
        yield Diagnostic(plugin.position, "plugins", message)


def documents(objects: Iterable[Object], *, comment: str) -> str:
    """Return the objects as YAML documents, behind a comment of lines without ``#``."""
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    return head + "---\n".join(map(yaml_writer.write, objects))
