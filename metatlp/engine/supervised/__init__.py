"""Ordinary training: multi-task learning and finetuning."""
