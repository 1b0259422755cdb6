"""Parts of bench_meta_step.py; nothing here is installed."""
