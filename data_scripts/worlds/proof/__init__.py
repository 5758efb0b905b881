"""Measurements that say whether the worlds are good enough to mean something."""
