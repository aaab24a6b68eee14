"""Kong's declarative configuration, read as decK reads it.

``state.parse`` turns the files' bytes into a ``model.Gateway``, or says everything that is
wrong with them at once.  From the bottom up: ``problems`` (what there is to
say), ``environment`` (values from outside the file), ``document`` (YAML with
its positions), ``checks`` (what a text may look like), ``schema`` (reads a value by its
declared kind), ``openid_connect`` (the plugin, whose parameters ``authz.parameters``
declares), ``plugins`` (all the others), ``entities`` (services, routes, consumers),
``files`` (read when they keep still), ``content`` (merged), ``state`` (the whole).
``router`` finds what applies to a request; ``openings`` compares two configurations by
what they let in, with requests from ``witness`` and ``examples``.
"""
