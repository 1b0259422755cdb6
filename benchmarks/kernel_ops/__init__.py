"""Parts of bench_kernels.py; nothing here is installed."""
