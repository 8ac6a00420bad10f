# Each target is enough by itself: underlay/bootstrap installs and builds what is not there yet.
PYTHON ?= $(or $(wildcard .venv/bin/python3),python3)
LOCK = uv pip compile --quiet --universal --python-version 3.10 --no-annotate --custom-compile-command "make lock"

# The longest first.
TESTS = test-slow-g test-slow-a test-ros-a test-ros-g test-quick-others lint test-weights test-quick-training
# Each on one thread, its output in one piece.
TOGETHER = OMP_NUM_THREADS=1 $(MAKE) --keep-going --output-sync=target --no-print-directory
PYTEST = . build/env.sh && python -X faulthandler -m pytest --durations=10
# Of the files that begin with some letters, those in which a mark stands: to import the others, only
# to find nothing in them, takes seconds.
marked = $$(grep -l 'mark\.$(1)' test/test_[$(2)]*.py)
# Those of which not all tests are marked.
unmarked = $$(grep -L '^pytestmark = .*mark\.\(ros\|slow\|weights\)' test/test_*.py)
QUICK = $(PYTEST) -q -m "not slow and not ros and not weights"

.PHONY: demo lint check test test-ros test-slow test-quick $(TESTS) env lock clean

demo: env
	. build/env.sh && exec python -m roi_anon_ros.graph.demo $(if $(INPUT),--input "$(INPUT)") $(if $(MODEL),--model "$(MODEL)") \
		$(if $(DETECTOR),--detector "$(DETECTOR)")

# Style, format and types.
lint: env
	. build/env.sh && ruff check . && ruff format --check . && mypy

# With every test that is quick and needs neither nodes nor a detector's weights.
check: env
	+@$(TOGETHER) --jobs=$$(nproc) $(QUICK_TESTS) lint

# Seven processes: one that had run all tests crashed in the native code of an engine or a detector.
# One more at a time than there are cores, for nodes wait much of the time.
test: env
	+@$(TOGETHER) --jobs=$$(($$(nproc) + 1)) $(TESTS)

test-ros: test-ros-a test-ros-g

test-ros-a: env
	$(PYTEST) -m "ros" $(call marked,ros,a-f)

test-ros-g: env
	$(PYTEST) -m "ros" $(call marked,ros,g-z)

test-slow: test-slow-a test-slow-g

test-slow-a: env
	$(PYTEST) -m "slow and not ros" $(call marked,slow,a-f)

test-slow-g: env
	$(PYTEST) -m "slow and not ros" $(call marked,slow,g-z)

test-weights: env
	$(PYTEST) -m "weights and not slow and not ros" $(call marked,weights,a-z)

# In two processes: one that has run networks crashes when a training forks its workers, and Lightning
# takes long to import.
QUICK_TESTS = test-quick-others test-quick-training
training = 'roi_anon_ros\.\(train\|study\)\|lightning'
test-quick: $(QUICK_TESTS)

test-quick-others: env
	$(QUICK) $$(grep -L $(training) $(unmarked))

test-quick-training: env
	$(QUICK) $$(grep -l $(training) $(unmarked))

env:
	@$(PYTHON) underlay/bootstrap

# Pins what setup.py and requirements-ros.in name. Add UPGRADE=--upgrade for newer versions.
lock:
	$(LOCK) $(UPGRADE) --all-extras setup.py -o requirements.txt
	$(LOCK) $(UPGRADE) --project underlay -c requirements.txt underlay/requirements-ros.in -o underlay/requirements-ros.txt

clean:
	rm -rf .venv build install log demo
