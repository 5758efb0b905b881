"""The feed-forward generator of Stage 1."""

from sa0lib.nets.generator import Generator, GeneratorConfig, Person, Prediction

__all__ = ["Generator", "GeneratorConfig", "Person", "Prediction"]
