"""Project files: loading them, and the modules they name."""
