"""Gates: what a challenger must show, and the statistics that judge it against the champion."""
