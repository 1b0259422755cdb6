# What a change must pass (check, test, smoke), and longer runs. Everything runs in the active
# environment. bench: make bench DATA=folder-in-XTREME-layout ENCODER=encoder-folder-or-name
ACCELERATE = accelerate launch --config_file accelerate_configs
SMOKE = runs/smoke
# A demo of seconds: two meta steps of few short batches, and a checkpoint after each.
TINY = --demo-scale 0.0002 --pretrain-steps 3 --max-meta-steps 2 --meta-batch-size 2 \
	--eval-examples 4 --save-every 1 --cache-dir $(SMOKE)/cache --output-dir $(SMOKE)/run

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

# The scripts from start to end (not the long demo_*.py of benchmarks/). One process goes on from the first of the two checkpoints that two
# processes wrote.
smoke: export OMP_NUM_THREADS = 1
smoke: export HF_HUB_OFFLINE = 1
smoke:
	rm -rf $(SMOKE)
	python -m metatlp.data.demo --output-dir $(SMOKE)/grid --scale 0.0002
	python -m metatlp.model.demo_encoder --output-dir $(SMOKE)/encoder --pretrain-steps 3
	$(ACCELERATE)/cpu_2.yaml train_meta.py $(TINY)
	rm -r $(SMOKE)/run/checkpoints/step_000002
	$(ACCELERATE)/single_gpu_debug.yaml train_meta.py $(TINY) --resume auto
	$(ACCELERATE)/single_gpu_debug.yaml train_meta.py --debug $(TINY) --output-dir $(SMOKE)/debug
	python benchmarks/bench_meta_step.py --quick --data-dir $(SMOKE)/grid \
		--model $(SMOKE)/encoder --cache-dir $(SMOKE)/cache
	@echo "smoke: done"
