# `make` alone shows what there is. PYTHON=/path/to/python3 chooses another interpreter.

EXPERIMENT = fio/quick.yml
SEED = 84
FAULTS_LOG = runs/faults.jsonl
SHELL_SCRIPTS = git ls-files -co --exclude-standard -- '*.sh' .ci/run playbooks/roles/guest_image/files/init
YAML_FILES = .

.PHONY: help setup run pool cost test bench faults fuzz lint docs clean

help: ## show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r t d; do printf '%-8s%s\n' "$$t" "$$d"; done

setup: ## make .venv/bin/harness; seconds when it is there
	@./bootstrap.sh

run: setup ## benchmark QEMU 7.2 against 10.0 here and print the table
	.venv/bin/harness run $(EXPERIMENT)

pool: setup ## does the coroutine pool hoard until QEMU aborts? 7.2 against 10.0
	.venv/bin/harness run fio/pool-growth.yml --to-the-limit

cost: setup ## count instructions a request of QEMU 7.2 and 10.0; a minute, on any host
	.venv/bin/harness run fio/instructions.yml

test: setup ## all tests but the slow ones, after providing the builds and the guest they boot, and a browser
	@./bootstrap.sh test
	.venv/bin/harness provision $(EXPERIMENT)
	.venv/bin/pytest

fuzz: setup ## N=100000 hostile inputs for every reader, and the table in docs/fuzzing.md
	.venv/bin/pip install --disable-pip-version-check -q --only-binary atheris -c constraints.txt atheris || \
	    { echo "no atheris for this Python (wheels: CPython 3.11 to 3.13, Linux on x86_64); without it:" \
	        "PYTHONPATH=tests:tests/unit .venv/bin/python -m fuzz --engine random --runs $(or $(N),1000)" >&2; exit 2; }
	PYTHONPATH=tests:tests/unit .venv/bin/python -m fuzz --runs $(or $(N),1000) $(if $(N),--page docs/fuzzing.md)

bench: setup ## how fast is the harness itself? ratios against bare loops; ONLY=startup for a part
	@./bootstrap.sh test
	.venv/bin/harness provision $(EXPERIMENT)
	PYTHONPATH=tests:tests/unit .venv/bin/python -m bench $(ONLY) --json runs/bench.json $(if $(PAGE),--page $(PAGE))

faults: setup ## kill anything at any moment, N=200 times (hours); writes docs/reliability.md
	@./bootstrap.sh test
	rm -f $(FAULTS_LOG)
	.venv/bin/pytest -q tests/system/test_fault_campaign.py tests/system/test_killed_starts.py --faults $(or $(N),200) --faults-seed $(SEED) \
		--faults-log $(FAULTS_LOG); status=$$?; \
	.venv/bin/python tests/system/fault_figures.py docs/reliability.md $(FAULTS_LOG); exit $$status

lint: setup ## every linter
	@./bootstrap.sh dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/yamllint -s $(YAML_FILES)
	PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/ansible-lint --offline -q
	shellcheck $$($(SHELL_SCRIPTS))

docs: setup ## make what the code says of itself anew: docs/cli.md, and tables in others
	.venv/bin/pytest -q tests/unit/test_docs.py -k reference_pages --regenerate

clean: ## remove .venv and caches; keep runs and what is provisioned
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .ansible *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
