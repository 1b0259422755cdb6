"""Parts of bench_scaling.py; nothing here is installed."""
