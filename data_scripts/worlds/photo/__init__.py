"""From a person on a stage to a photograph."""
