# What a change must pass (check, test), and longer runs. Everything runs in the active environment.
# smoke, bench: make smoke DATA=folder-in-XTREME-layout ENCODER=encoder-folder-or-name
ACCELERATE = accelerate launch --config_file accelerate_configs

.PHONY: check test test-gpu bench smoke

check:
	ruff check .
	ruff format --check .
	mypy

test:
	pytest

test-gpu:
	pytest -m gpu

bench:
	@set -e; for script in benchmarks/bench_*.py; do echo "== $$script"; \
		python "$$script" $(if $(DATA),--data-dir $(DATA)) $(if $(ENCODER),--model $(ENCODER)); done

smoke:
	$(ACCELERATE)/single_gpu_debug.yaml train_meta.py --debug \
		$(if $(DATA),--data-dir $(DATA)) $(if $(ENCODER),--model $(ENCODER)) --output-dir runs/smoke
