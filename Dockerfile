# The first stage installs, the second runs: Debian's Python 3.13 with neither shell nor package manager. The builder's
# Python has to be the same 3.x, and its Debian no newer.
#
# Both tags move, for the bases' security fixes. To build on exactly today's bases, append their digests, here or as
# build arguments; `docker buildx imagetools inspect TAG` prints them as Digest:
#   docker build --build-arg BUILDER=python:3.13-slim-trixie@sha256:... \
#     --build-arg BASE=gcr.io/distroless/python3-debian13:latest@sha256:... .
# Written here, Renovate keeps them fresh.
ARG BUILDER=python:3.13-slim-trixie
ARG BASE=gcr.io/distroless/python3-debian13:latest

FROM ${BUILDER} AS builder
COPY requirements.txt /
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps \
    --only-binary=:all: --no-compile --target=/app --requirement=/requirements.txt
COPY exporter/borgbase_exporter /app/borgbase_exporter
COPY LICENSE /app/LICENSE
# Compiled now, as nothing can be written later; unchecked, as files do not change in an image.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash /app

FROM ${BASE}
COPY --from=builder /app /app
ENV PYTHONPATH=/app \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
# Does this Python load what the other one has installed? It also keeps what it compiles of the standard library, which
# comes uncompiled: otherwise every start and health check would compile it anew.
RUN ["python3", "-c", "import borgbase_exporter.commands.serve, borgbase_exporter.commands.check, borgbase_exporter.demo"]
ENV PYTHONDONTWRITEBYTECODE=1
# By number, so that Kubernetes knows that it is not root. Nothing is written: --read-only works.
USER 65532:65532
EXPOSE 10133
# For the default address without TLS; otherwise disable it, or give Compose another: docs/container.md.
# With users in --web.config.file, it needs --web.open-probes.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["python3", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 10133, timeout=4); c.request('GET', '/-/healthy'); raise SystemExit(c.getresponse().status != 200)"]
# A list, so that SIGTERM reaches the exporter and not a shell: it ends within a second.
ENTRYPOINT ["python3", "-m", "borgbase_exporter"]
# Last, as it changes with each commit.
ARG REVISION=unknown
LABEL org.opencontainers.image.title="borgbase-exporter" \
      org.opencontainers.image.description="Prometheus exporter for BorgBase: repo usage, quotas, freshness and account facts" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="https://github.com/borgbase-exporter/borgbase-exporter" \
      org.opencontainers.image.documentation="https://github.com/borgbase-exporter/borgbase-exporter/blob/main/docs/container.md" \
      org.opencontainers.image.licenses="MIT"
