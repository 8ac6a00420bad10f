# Each target is enough by itself: underlay/bootstrap installs and builds what is not there yet.
PYTHON ?= $(or $(wildcard .venv/bin/python3),python3)
LOCK = uv pip compile --quiet --universal --python-version 3.10 --no-annotate --custom-compile-command "make lock"

.PHONY: demo check test env lock clean

demo: env
	. build/env.sh && exec python -m roi_anon_ros.graph.demo $(if $(INPUT),--input "$(INPUT)") $(if $(MODEL),--model "$(MODEL)")

# Style, layers, and every test that is quick and needs neither nodes nor a detector's weights.
check: env
	. build/env.sh && ruff check . && ruff format --check . && exec python -m pytest -q -m "not slow and not ros and not weights"

# The engines have a process of their own: in the one that had run all other tests, OpenVINO crashed.
test: env
	. build/env.sh && ruff check . && ruff format --check . && python -m pytest --durations=25 --ignore test/test_engine.py && exec python -m pytest --durations=25 test/test_engine.py

env:
	@$(PYTHON) underlay/bootstrap

# Pins what setup.py and requirements-ros.in name. Add UPGRADE=--upgrade for newer versions.
lock:
	$(LOCK) $(UPGRADE) --all-extras setup.py -o requirements.txt
	$(LOCK) $(UPGRADE) --project underlay -c requirements.txt underlay/requirements-ros.in -o underlay/requirements-ros.txt

clean:
	rm -rf .venv build install log demo
