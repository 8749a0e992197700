# sluice, built and ready: docker build -t sluice . && docker run -v "$PWD:/work" -w /work sluice train my.toml
# For a GPU: docker build --build-arg WHEEL=--cuda, and run with --gpus all. (At build time no driver is to be seen.)
FROM debian:12
ARG WHEEL=--cpu
ENV PIP_NO_CACHE_DIR=1
WORKDIR /opt/sluice

# What changes seldom first, so that a changed source file does not fetch LibTorch again.
COPY sluicew ./
COPY cmake/packages.txt cmake/libtorch.version cmake/
RUN ./sluicew setup packages && rm -rf /var/lib/apt/lists/*
RUN ./sluicew $WHEEL setup torch

COPY . .
RUN ./sluicew setup
ENTRYPOINT ["/opt/sluice/sluicew"]
