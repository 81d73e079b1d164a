# Everything a newcomer needs: `make demo` to see it run, `make test` to test it. Python 3.11 or newer and make suffice.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PAGES  := api/pages/static/manifest.json

.PHONY: setup demo test lint types screenshot bench opponents fuzz faults overload cluster-faults kafka scale rights sbom clean

setup: $(READY) $(PAGES)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("需要 Python 3.11 或更新 / Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "安装依赖，首次需几分钟 · installing what it needs, which takes minutes the first time"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

# Scripts and style sheets of the pages, built with Node: the machine's, or one from PyPI that is removed afterwards.
$(PAGES): tools/build_assets.py $(shell find api/pages/assets -type f)
	@echo "构建页面资源 · building the pages' assets"
	$(PYTHON) tools/build_assets.py

demo: $(READY) $(PAGES)
	$(BIN)/riverchief demo $(ARGS)

test: $(READY) $(PAGES)
	sh tests/servers.sh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# beside mypy, which uses one processor: compiles once what each process of the tests would compile
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only --quiet >/dev/null 2>&1 & \
		$(BIN)/mypy; checked=$$?; wait; exit $$checked
	$(BIN)/lint-imports
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)
	$(BIN)/mypy
	$(BIN)/lint-imports

screenshot: $(READY) $(PAGES)
	RIVERCHIEF_LONG=1 $(BIN)/python -m pytest -q tests/system/test_screenshot.py
	mkdir -p docs/images && cp build/map.png docs/images/map.png

bench: $(READY) $(PAGES)
	$(BIN)/riverchief bench ingest
	$(BIN)/riverchief bench latency

# Our detection beside its opponents on public records, with the speed of each: make opponents DATA=folder ARGS="--only faults"
opponents:
	test -x .venv-opponents/bin/saqc || ($(PYTHON) -m venv .venv-opponents && .venv-opponents/bin/pip install --quiet \
		--constraint constraints.txt --editable . ioos_qc scikit-learn saqc)
	.venv-opponents/bin/python -m tools.detection $(DATA) $(ARGS)

# Bad input at scale; writes its figures into docs/bad-input.md. RIVERCHIEF_FUZZ_SEED=n repeats a run.
fuzz: $(READY) $(PAGES)
	test -x .venv-fuzz/bin/schemathesis || ($(PYTHON) -m venv .venv-fuzz && .venv-fuzz/bin/pip install --quiet schemathesis)
	RIVERCHIEF_FUZZ=1000000 RIVERCHIEF_FUZZ_SECONDS=3000 RIVERCHIEF_FUZZ_WRITE=1 \
		RIVERCHIEF_SCHEMATHESIS=$(CURDIR)/.venv-fuzz/bin/schemathesis \
		$(BIN)/python -m pytest -s --timeout 3600 tests/fuzz $(ARGS)

# 200 faults at random, about fifteen minutes; writes docs/reliability.md. ARGS="--seed N --faults N --database postgres"
faults: $(READY) $(PAGES)
	$(BIN)/python -m tests.faults.runner $(ARGS)

# Ten times the sustainable rate for ten minutes, and what follows; about half an hour. Prints what
# docs/operations/overload.md is measured by.
overload: $(READY) $(PAGES)
	RIVERCHIEF_LONG=1 RIVERCHIEF_OVERLOAD_S=600 $(BIN)/python -m pytest -s tests/system/test_overload.py -k minutes $(ARGS)

# Every fault of a cluster on NATS, about ten minutes; writes the table of docs/scale.md.
cluster-faults: $(READY)
	RIVERCHIEF_LONG=1 $(BIN)/python -m pytest -q tests/faults/test_cluster_faults.py -k nats

# The contract of the streams and every fault of a cluster on Apache Kafka: three brokers on plain Java, jars through Maven.
kafka: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,kafka]'
	mvn --quiet --file tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/build/kafka
	RIVERCHIEF_LONG=1 $(BIN)/python -m pytest -q tests/contract/test_transport.py tests/faults/test_cluster_faults.py -k kafka

# The model and the simulated storm of docs/scale.md.
scale: $(READY)
	$(BIN)/python tools/scale.py

# The table of who may ask what (tests/data/rights.txt), from the routes; read what changed before it is committed.
rights: $(READY) $(PAGES)
	RIVERCHIEF_RIGHTS=write $(BIN)/python -m pytest -q tests/contract/test_rights_matrix.py

# What is installed, as CycloneDX: libraries, those of the pages, images.
sbom: $(READY)
	$(BIN)/python -m tools.sbom build/sbom.json

clean:
	rm -rf $(VENV) .venv-fuzz .venv-opponents .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist *.egg-info api/pages/static
