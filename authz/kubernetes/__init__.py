"""Manifests for Kubernetes that belong to one configuration: what ``authz manifests`` prints.

Pure: a checked configuration in, objects out, each a value of JSON; ``documents`` writes them.

``names`` and ``objects``: what every object has, and where authz is in the cluster.
``matches``: Kong's rules as Envoy Gateway's matches, in an order that it keeps.
``envoy_gateway``, ``istio``, ``kustomization``: one for each kind of manifests.
"""

from __future__ import annotations
