# syntax=docker/dockerfile:1
# The reply worker for a cluster: everything that does not need a screen. docker-compose.yml and ops/kubernetes run it.
#
#   docker build --tag autoreply-worker --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# This image was never built where autoreply is developed, for lack of a container engine: `make ops-check` holds this file
# against hadolint and what it copies against what the build reads, and the same cargo command is built and linted on Debian 12.

FROM rust:1.95-slim-bookworm AS build
# Versions are Debian's: the release, not a list here, decides them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ gcc libc6-dev libssl-dev make perl pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# What was fetched and built stays in the builder's caches, beside the layers: a change of the sources builds only what it
# touches, and a change of Cargo.lock only what it names.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/source/target,sharing=locked \
    cargo build --release --locked --package autoreply --bin autoreply --no-default-features --features worker \
    && install target/release/autoreply /usr/local/bin/autoreply

FROM debian:bookworm-slim AS worker
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="autoreply worker" \
      org.opencontainers.image.description="Writes replies to chat messages that desks have read; needs Kafka and PostgreSQL." \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/autoreply autoreply \
    && install --directory --owner autoreply --group autoreply --mode 0700 /var/lib/autoreply /run/autoreply
COPY --from=build /usr/local/bin/autoreply /usr/local/bin/autoreply
USER 10001:10001
# Two of the C library's arenas: with more, a worker holds 30 MB more and is no faster (docs/PERFORMANCE.md).
ENV MALLOC_ARENA_MAX=2
# The two places to which a worker writes: the control socket, and a ledger only if it has no PostgreSQL. The rest of the file
# system may be read-only.
ENV XDG_RUNTIME_DIR=/run/autoreply XDG_DATA_HOME=/var/lib/autoreply
VOLUME /var/lib/autoreply
# Metrics and health. A variable wins over a settings file: change it here, and the port of the health check with it.
ENV AUTOREPLY__CONTROL__LISTEN=0.0.0.0:9464
EXPOSE 9464
# The image has no HTTP client; bash opens the connection itself. Alive, not ready: a ledger that is away is waited for.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9464 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q ' 200 ' <&3"]
# No shell in between: SIGTERM reaches the program, which ends what it works on.
ENTRYPOINT ["autoreply"]
CMD ["worker"]
