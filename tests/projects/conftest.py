"""These are projects as users write them, not tests: pytest must not import them."""

collect_ignore_glob = ["*"]
