# syntax=docker/dockerfile:1
# The reply worker for a cluster: everything that does not need a screen. docker-compose.yml runs it.
# This image was never built where autoreply is developed, for lack of a container engine: `make compose-check` holds this
# file against hadolint, and the same cargo command is built and linted on Debian 12.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /source
# Versions are Debian's: the release, not a list here, decides them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ gcc libc6-dev libssl-dev make perl pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --release --locked --package autoreply --bin autoreply --no-default-features --features worker \
    && cp target/release/autoreply /usr/local/bin/autoreply

FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/autoreply autoreply
COPY --from=build /usr/local/bin/autoreply /usr/local/bin/autoreply
USER 10001:10001
# What a worker keeps on disk: the control socket, and a ledger only if it has no PostgreSQL.
ENV XDG_DATA_HOME=/var/lib/autoreply
VOLUME /var/lib/autoreply
ENTRYPOINT ["autoreply"]
CMD ["worker"]
