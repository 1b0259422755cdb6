"""Models of a run for others: a folder per task, and repositories on the Hugging Face hub."""
