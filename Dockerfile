# A CPU image: pinned Python, packages in the versions of constraints.txt, a compiler for the kernels, no rights.
# Without arguments it runs the demo, which is its test.
FROM python:3.11.13-slim-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libgomp1 \
    && rm -rf /var/lib/apt/lists/*

RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt ./
# First and alone, from the index of CPU builds: PyPI's torch brings some 5 GB of CUDA's libraries.
RUN pip install --index-url https://download.pytorch.org/whl/cpu --extra-index-url https://pypi.org/simple \
    -c constraints.txt torch
COPY setup.cfg pyproject.toml MANIFEST.in README.md LICENSE ./
COPY partition partition
COPY bnsgcn bnsgcn
COPY launch launch
RUN pip install -c constraints.txt '.[export,parquet,report]' && rm -rf /src/build

RUN useradd --uid 1000 --create-home worker && mkdir /graphs && chown worker:worker /graphs
USER worker
WORKDIR /graphs
CMD ["bnsgcn", "train", "synthetic:nodes=20000", "--parts", "2", "--run-dir", "runs/demo", "--layers", "2", "--epochs", "40"]
