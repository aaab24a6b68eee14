"""Kong's declarative configuration, read as decK reads it.

``state.parse`` turns the files' bytes into a ``model.Gateway``, or reports everything that
is wrong with them at once.  From the bottom up:

- a text: ``problems`` (what is reported), ``environment`` (variables and vaults),
  ``document`` (YAML with its positions), ``checks`` (what a text may look like),
  ``schema`` (reads a value by its declared kind), ``json_schema`` (the same for editors);
- the plugin: ``openid_connect``, whose parameters ``authz.parameters`` declares; ``slots``
  (where its credentials may stand);
- entities: ``protocols``, ``plugins`` (their names), ``entities`` (services, routes,
  consumers), ``index`` (references), ``plugin_entries`` (where a plugin may stand);
- the whole: ``files`` (read when they keep still), ``content`` (merged), ``state``.

``rules`` is Kong's order of routes, ``scopes`` tells which plugin applies to one.
``router`` finds both for a request, by its ``readings`` and the routes' ``conditions``.
``openings`` compares two configurations by what they let in, with requests from
``witness`` and ``examples``.
"""
