"""For every test."""

import signal

from hypothesis import settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in the background deaf to Ctrl-C, and children inherit that; tests interrupt children.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("trimtab", deadline=None)  # a busy machine is no fault of what is tested
settings.load_profile("trimtab")
