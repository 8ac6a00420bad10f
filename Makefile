# Each target is enough by itself: underlay/bootstrap installs and builds what is not there yet.
PYTHON ?= $(or $(wildcard .venv/bin/python3),python3)
LOCK = uv pip compile --quiet --universal --python-version 3.10 --no-annotate --custom-compile-command "make lock"

# The longest first.
TESTS = test-ros test-slow test-quick-a test-quick-s test-weights
PYTEST = . build/env.sh && python -X faulthandler -m pytest --durations=10
QUICK = $(PYTEST) -q -m "not slow and not ros and not weights"

.PHONY: demo lint check test test-quick $(TESTS) env lock clean

demo: env
	. build/env.sh && exec python -m roi_anon_ros.graph.demo $(if $(INPUT),--input "$(INPUT)") $(if $(MODEL),--model "$(MODEL)")

# Style, format and types.
lint: env
	. build/env.sh && ruff check . && ruff format --check . && mypy

# With every test that is quick and needs neither nodes nor a detector's weights.
check: lint test-quick

# Five processes, two at a time, each on one thread: one that had run all tests crashed in the native
# code of an engine or a detector.
test: lint
	@OMP_NUM_THREADS=1 $(MAKE) --jobs=2 --keep-going --output-sync=target --no-print-directory $(TESTS)

test-ros: env
	$(PYTEST) -m "ros"

test-slow: env
	$(PYTEST) -m "slow and not ros"

test-weights: env
	$(PYTEST) -m "weights and not slow and not ros"

# In two processes: one that has run networks crashes when a training forks its workers.
test-quick: test-quick-a test-quick-s

test-quick-a: env
	$(QUICK) test/test_[a-r]*.py

test-quick-s: env
	$(QUICK) test/test_[s-z]*.py

env:
	@$(PYTHON) underlay/bootstrap

# Pins what setup.py and requirements-ros.in name. Add UPGRADE=--upgrade for newer versions.
lock:
	$(LOCK) $(UPGRADE) --all-extras setup.py -o requirements.txt
	$(LOCK) $(UPGRADE) --project underlay -c requirements.txt underlay/requirements-ros.in -o underlay/requirements-ros.txt

clean:
	rm -rf .venv build install log demo
