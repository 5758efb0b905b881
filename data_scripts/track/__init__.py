"""A video of one person becomes a dataset: landmarks, a fitted OpenHead, mattes (`python -m data_scripts.track`)."""
