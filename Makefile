# What a change must pass (check, test, smoke), and longer runs. Everything runs in the active
# environment, bench on the demo.
SMOKE = runs/smoke
TINY = --demo-scale 0.0002 --cache-dir $(SMOKE)/cache
# A run of seconds: two meta steps of few short batches, and a checkpoint after each.
RUN = --preset debug --pretrain-steps 0 --max-meta-steps 2 --save-every 1 $(TINY)

.PHONY: check test test-gpu bench smoke smoke-runs smoke-parts

check:
	ruff check .
	ruff format --check .
	mypy

test:
	pytest

test-gpu:
	pytest -m gpu -n 0

# Some twenty-five minutes on two cores, most of them in the three runs of demo_scores.py and the
# worlds of bench_scaling.py. The operations on a vector that any machine holds; benchmarks/README.md
# has the run at the size of real encoders.
bench:
	@set -e; for script in benchmarks/bench_meta_step.py benchmarks/bench_rewards.py benchmarks/bench_evaluate.py \
		benchmarks/bench_scaling.py benchmarks/demo_*.py \
		"benchmarks/bench_kernels.py --parameters 20000000"; do \
		echo "== $$script"; python $$script; done

# Every script from start to end: those that train or need a run beside those that do not, because
# most of the time goes into imports. What a line prints is shown when it is done.
smoke: export OMP_NUM_THREADS = 1
smoke: export HF_HUB_OFFLINE = 1
smoke:
	rm -rf $(SMOKE)
	$(MAKE) --jobs=2 --output-sync=line smoke-runs smoke-parts
	@echo "smoke: done"

# One process with every check on goes on from the first of the two checkpoints that two processes
# wrote.
smoke-runs:
	python benchmarks/demo_scores.py --seeds 0 --processes 2 --runs-dir $(SMOKE) -- $(RUN)
	rm -r $(SMOKE)/seed-0/checkpoints/step_000002
	accelerate launch train_meta.py --selection all --sampler temp --tau 2 --debug $(RUN) \
		--output-dir $(SMOKE)/seed-0 --resume auto
	python train_meta.py --sampler multidds --dev-tlps task:pos --dds-every 1 $(RUN) \
		--demo-scale 0.0004 --batch-size 1 --output-dir $(SMOKE)/multidds
	python train_mtl.py --selection task:pos,pa --max-updates 3 --average-last 1 --eval-examples 4 \
		--batch-size 4 $(TINY) --output-dir $(SMOKE)/mtl
	accelerate launch finetune.py --tlp pos_hi --init-from $(SMOKE)/mtl --updates 2 --eval-examples 4 \
		$(TINY) --output-dir $(SMOKE)/finetune
	python evaluate_zeroshot.py --model $(SMOKE)/mtl,$(SMOKE)/mtl/averaged --tlps pos_et,pa_ja \
		--eval-examples 4 --bootstrap 10 $(TINY) --output-dir $(SMOKE)/scores
	python -m metatlp.export --run $(SMOKE)/multidds/checkpoints/step_000002 --output-dir $(SMOKE)/exported
	python -m metatlp.report.sampler --run $(SMOKE)/multidds
	@set -e; for run in multidds mtl finetune; do python -m metatlp.report $(SMOKE)/$$run; done
	cp tests/report/smoke_plan.json $(SMOKE)/plan.json
	python -m metatlp.report.reproduction --results $(SMOKE) --bootstrap 100
	python -m metatlp.report.affinity --checkpoint $(SMOKE)/multidds/checkpoints/step_000002 \
		--dev-batches 2

smoke-parts:
	python -m metatlp.data.demo --output-dir $(SMOKE)/grid --scale 0.0002
	python -m metatlp.model.demo_encoder --output-dir $(SMOKE)/encoder --pretrain-steps 3
	python -m metatlp.reproduction plan ci $(SMOKE)/reproduction
	python benchmarks/demo_relatedness.py --num-seeds 1 --sentences 5
	python benchmarks/demo_baselines.py --scale 0.0002 --examples 2
	python benchmarks/bench_kernels.py --quick
	python benchmarks/bench_meta_step.py --quick --breakdown $(TINY)
	python benchmarks/bench_rewards.py --quick $(TINY)
	python benchmarks/bench_evaluate.py --quick $(TINY)
	python benchmarks/bench_scaling.py --quick $(TINY)
	python benchmarks/demo_noise.py --seeds 0 --scale 0.0002 --reward-batches 2 --dds-every 1 -- \
		--max-meta-steps 2 --batch-size 4 --eval-examples 4
