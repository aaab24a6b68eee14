"""The ways in which a caller may prove who it is, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz.methods.bearer import Bearer
from authz.methods.client_credentials import ClientCredentials
from authz.methods.introspection import Introspection
from authz.methods.password import Password
from authz.methods.userinfo import Userinfo

if TYPE_CHECKING:
    from authz.methods.base import Method

# In Kong's order.  A new method is a file, a name here and a test file.
METHODS: Final[tuple[type[Method], ...]] = (
    Bearer,
    Introspection,
    Userinfo,
    Password,
    ClientCredentials,
)
METHOD_NAMES: Final = tuple(method.name for method in METHODS)
