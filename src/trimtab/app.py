"""The composition root: settings in, wired objects out. The only module that names an adapter."""
