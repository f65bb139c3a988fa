"""``python -m trimtab``: the command, also where no script is installed."""

from trimtab.cli.main import main

if __name__ == "__main__":
    main()
