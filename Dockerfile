# Production images on an NVIDIA base. Stages: `build` has the exporters and makes the demo bundle; `serve` has the HTTP
# server, and takes a bundle as a volume; `runtime`, the default, has the demo bundle and only what draws it. Every RUN
# line is one that the README or CI also runs on a bare machine. docs/run.md and docs/serving.md have the commands.
ARG CUDA=13.0.2
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

FROM base AS serve
RUN python -m pip install -c constraints.txt '.[serve,onnxruntime-gpu,tensorrt-lean]'
RUN useradd --uid 10001 --create-home realcompo
USER realcompo
VOLUME /bundle
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=6s --start-period=300s --retries=3 \
    CMD ["python", "-I", "-c", "from http.client import HTTPConnection as To; to = To('127.0.0.1', 8000, timeout=5); \
to.request('GET', '/v2/health/ready'); raise SystemExit(to.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "runtime", "serve"]
CMD ["/bundle", "--host", "0.0.0.0", "--port", "8000", "--api-key-file", "/run/secrets/api-keys"]

FROM base AS runtime
RUN python -m pip install -c constraints.txt '.[cli,onnxruntime-gpu,tensorrt-lean]'
COPY --from=build /opt/realcompo/engines/tabletop/*.json /opt/realcompo/engines/tabletop/*.onnx \
    /opt/realcompo/engines/tabletop/*.onnx.data /opt/realcompo/engines/tabletop/*.npz engines/tabletop/
RUN useradd --create-home realcompo && mkdir /outputs && chown realcompo /outputs
USER realcompo
ENTRYPOINT ["python", "-m", "runtime"]
CMD ["--help"]
