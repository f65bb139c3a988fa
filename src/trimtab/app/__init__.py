"""The composition root: settings in, wired objects out. The only room that names an adapter.

One function per thing that a person can ask for. The command line, the HTTP API and Python all call these; each takes
plain values and returns a JSON-able ``dict``. Imports are inside, so that ``trimtab --help`` and a serving worker load
only what they use.
"""
