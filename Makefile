# `make demo` animates the bundled pictures, `make test` checks everything; both set themselves up first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo pose test lint types unit mutants fuzz setup clean

setup: $(READY)

# uv resolves and installs in seconds where pip takes minutes. An empty UV_FIND_LINKS is ignored.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
		-c constraints.txt -e '.[train,eval,dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/python examples/demo.py --out out/demo

# mediapipe 0.10.21 asks for an old numpy and a second OpenCV but needs neither, hence --no-deps.
pose: $(READY)
	UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" $(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python -c constraints.txt \
		mediapipe==0.10.21 absl-py attrs flatbuffers \
		matplotlib cycler kiwisolver pyparsing packaging python-dateutil six contourpy fonttools

test: lint types unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# One thread per worker: more threads than cores run several times slower.
unit: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/pytest -n 2

# Hours, and no part of CI. Stopped and called again, it goes on where it was; `mutmut browse` shows what survived.
mutants: $(READY)
	UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[mutants]'
	OMP_NUM_THREADS=1 STILLMOTION_REFERENCE="$${STILLMOTION_REFERENCE:-$(CURDIR)/../shared/reference}" \
		$(BIN)/mutmut run --max-children 2
	$(BIN)/mutmut results

# Hours, and no part of CI: INPUTS for all readers of foreign bytes together. Called again, it goes on where it was.
# `ENGINE=random` damages files at random where atheris cannot be installed.
INPUTS ?= 1000000
ENGINE ?= atheris
fuzz: $(READY)
	test $(ENGINE) != atheris || UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" $(BIN)/uv pip install --quiet --python $(BIN)/python \
		-c constraints.txt -e '.[fuzz]'
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py --engine $(ENGINE) --inputs $(INPUTS)

clean:
	rm -rf .venv mutants out .mypy_cache .ruff_cache .pytest_cache
