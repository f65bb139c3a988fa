"""The loop: triggers, rollouts and the pure function that decides; and replay, the same code under a virtual clock."""
