"""Scores of models on splits and files."""
