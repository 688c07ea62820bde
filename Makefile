# Two commands for a fresh machine with Python, pip, git and make: `make demo` and `make test`. Both make and use .venv.
PYTHON ?= python3
BIN := .venv/bin
BUNDLE := engines/tabletop
PICTURE := outputs/demo.png

.PHONY: demo test check quality train train-controlnets train-adapter train-style train-distilled clean

demo: .venv/ready
	$(BIN)/python -m export build tabletop --out $(BUNDLE)
	$(BIN)/python -m runtime generate $(BUNDLE) --layout examples/red_ball_blue_cube.json \
		--preset recommended --traces outputs/demo --out $(PICTURE)

test: .venv/ready check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

quality: .venv/ready
	$(BIN)/python -m benchmarks quality $(BUNDLE)

train: .venv/ready
	$(BIN)/python -m benchmarks.tabletop.train --out engines/tabletop --work outputs/train

train-controlnets: .venv/ready
	$(BIN)/python -m benchmarks.tabletop.train_controlnet segmentation
	$(BIN)/python -m benchmarks.tabletop.train_controlnet depth
	$(BIN)/python -m benchmarks.tabletop.train_controlnet canny

train-adapter: .venv/ready
	$(BIN)/python -m benchmarks.tabletop.train_adapter canny

train-style: .venv/ready
	$(BIN)/python -m benchmarks.tabletop.train_style

train-distilled: .venv/ready
	$(BIN)/python -m benchmarks.tabletop.train_distilled

# The constraints pin torch to a CPU build where pip finds one; plain `pip install` would fetch several GB of CUDA.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv outputs $(BUNDLE)/*.onnx $(BUNDLE)/*.onnx.data $(BUNDLE)/*.engine $(BUNDLE)/*.npz $(BUNDLE)/*.json
