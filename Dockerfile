# Production image on an NVIDIA base. Two stages: `build` has the exporters and makes the bundle, `runtime` has only what
# draws images. Every RUN line is one that the README or CI also runs on a bare machine.
#
#   docker build --tag realcompo .
#   docker run --gpus all --volume "$PWD/outputs:/outputs" realcompo generate engines/tabletop \
#       --layout examples/red_ball_blue_cube.json --out /outputs/demo.png
ARG CUDA=12.9.1
FROM nvidia/cuda:${CUDA}-cudnn-runtime-ubuntu24.04 AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/realcompo
RUN python3 -m venv .venv
ENV PATH=/opt/realcompo/.venv/bin:$PATH PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY runtime runtime
COPY examples examples

FROM base AS build
COPY export export
COPY benchmarks benchmarks
COPY engines/tabletop engines/tabletop
RUN python -m pip install -c constraints.txt -e '.[export]'
RUN python -m export build tabletop --out engines/tabletop
RUN python -m export verify engines/tabletop

FROM base AS runtime
RUN python -m pip install -c constraints.txt '.[cli,onnxruntime-gpu]'
COPY --from=build /opt/realcompo/engines/tabletop/*.json /opt/realcompo/engines/tabletop/*.onnx \
    /opt/realcompo/engines/tabletop/*.onnx.data /opt/realcompo/engines/tabletop/*.npz engines/tabletop/
RUN useradd --create-home realcompo && mkdir /outputs && chown realcompo /outputs
USER realcompo
ENTRYPOINT ["python", "-m", "runtime"]
CMD ["--help"]
