# Two commands: `make lab` and `make test`. Both set the lab up first, once.
PYTHON ?= python3
BOOTSTRAP = $(PYTHON) -m labkit.environments.bootstrap

.PHONY: lab test lint locks clean

lab:  ## set up, then JupyterLab on the first notebook
	@$(BOOTSTRAP) lab $(ARGS)

test:  ## set up, then every test; ARGS="-k words" picks some
	@$(BOOTSTRAP) test $(ARGS)

lint:
	@$(BOOTSTRAP) python -m ruff check .

locks:  ## resolve requirements/*.in anew (torch-cpu.txt is kept by hand)
	@$(BOOTSTRAP) python -m labkit.environments.locks

clean:  ## forget the environments of this checkout
	rm -rf .venv .labkit build
