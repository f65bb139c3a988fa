"""For every test."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in the background deaf to Ctrl-C, and children inherit that; tests interrupt children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
