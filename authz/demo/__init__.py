"""The embedded default: a development identity provider and the real parts around authz.

Nothing here is used by ``authz serve``.
"""
