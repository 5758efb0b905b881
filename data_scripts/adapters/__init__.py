"""Datasets of other people become the one format of `sa0lib.datasets` (`python -m data_scripts.adapters`)."""
