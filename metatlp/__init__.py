"""Reptile meta-learning over a grid of task-language pairs (TLPs)."""

__version__ = "0.1.0"
