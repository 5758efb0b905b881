# Each target is a thin line over a Python command that has --help.
PYTHON ?= python3.11
VENV := .venv
PY := $(VENV)/bin/python
JB := $(VENV)/bin/jupyter-book build . -W -n --keep-going
DATA := $(or $(SA0_DATA),data)
SUBJECT ?= clip

export PYTHONUNBUFFERED := 1
# torch and numba each have OpenMP threads; waiting ones must not spin, or they starve each other on two cores
export OMP_WAIT_POLICY := passive

.PHONY: help env assets book test lab notebooks track worlds proof convert refine bench clean
.DEFAULT_GOAL := help

help: ## what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

env: $(VENV)/installed

$(VENV)/installed: requirements.txt pyproject.toml
	@echo "== installing into $(VENV) (a minute or two)"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --disable-pip-version-check -r requirements.txt
	$(PY) -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

assets: env ## obtain and build the open parts
	@echo "== assets"
	$(PY) -m data_scripts.build_assets

book: assets ## run every chapter and build the pages
	@echo "== notebooks"
	$(PY) -m data_scripts.notebook execute
	@echo "== pages"
	@rm -rf _build/html _build/.doctrees
	$(JB)
	@echo "The book: $(CURDIR)/_build/html/index.html"

test: assets ## check the library, the notebooks and the built pages
	@echo "== style"
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	@echo "== notebooks, at profile smoke"
	$(PY) -m data_scripts.notebook check
	$(PY) -m data_scripts.notebook execute --profile smoke --timeout 600
	@echo "== pages"
	@rm -rf _build/smoke
	SA0_PROFILE=smoke $(JB) -q --path-output _build/smoke
	@echo "== tests"
	SA0_PROFILE=smoke SA0_BOOK=_build/smoke/_build/html $(PY) -m pytest tests notebooks -n 2 --dist loadfile \
		--nbval-lax --nbval-current-env --nbval-cell-timeout=600 --nbval-sanitize-with nbval_sanitize.cfg

lab: assets ## open the chapters in JupyterLab
	$(VENV)/bin/jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks/00_quickstart.ipynb

notebooks: assets ## write the .ipynb anew from their .py, with the text outputs of a run
	$(PY) -m data_scripts.notebook sync

.venv-track/installed: data_scripts/track/requirements.txt
	@echo "== installing the detector into .venv-track"
	$(PYTHON) -m venv .venv-track
	.venv-track/bin/python -m pip install --disable-pip-version-check -r data_scripts/track/requirements.txt
	@touch $@

track: assets .venv-track/installed ## track a face: make track VIDEO=me.mp4 OUT=data/me
	@test -n "$(VIDEO)" -a -n "$(OUT)" || { echo "usage: make track VIDEO=me.mp4 OUT=data/me"; exit 2; }
	$(PY) -m data_scripts.track "$(VIDEO)" "$(OUT)"

worlds: assets ## generate people and pictures: make worlds [WORLDS="celeb studio"] (resumes; desk: hours)
	$(PY) -m data_scripts.worlds $(WORLDS)

proof: assets .venv-track/installed ## are the worlds good enough to mean something? make proof [RECORD=mine]
	$(PY) -m data_scripts.worlds.proof $(if $(RECORD),--record "$(RECORD)")

convert: env ## bring a dataset you have into the one format: make convert NAME=insta SOURCE=... OUT=... [ARGS=--dry-run]
	@test -n "$(NAME)" -a -n "$(SOURCE)" -a -n "$(OUT)" || { $(PY) -m data_scripts.adapters --help; exit 2; }
	$(PY) -m data_scripts.adapters "$(NAME)" "$(SOURCE)" "$(OUT)" $(ARGS)

refine: assets ## refine a tracked subject: make refine SUBJECT=me (data/me) [ARGS="--flame ... --template ..."]
	$(PY) -m sa0lib.refine --data "$(DATA)/$(SUBJECT)" $(if $(RECORD),--record "$(RECORD)") $(ARGS)

$(DATA)/refined/clip/avatar.ply: | assets
	@echo "== no refined avatar yet: refining the clip's"
	$(PY) -m sa0lib.refine --data "$(DATA)/clip"

bench: assets $(DATA)/refined/clip/avatar.ply ## time rasterizer and refinement: make bench RECORD=mine
	@echo "== benchmarks"
	$(PY) -m tests.benchmarks.run --data "$(DATA)/clip" --avatar "$(DATA)/refined/clip/avatar.ply" \
		$(if $(RECORD),--record "$(RECORD)")

clean: ## delete what was built; .venv and data stay
	rm -rf _build .pytest_cache .ruff_cache .hypothesis sa0lib/__pycache__/kernels-*
