# The tag moves, for the base's security fixes. To build the very same image again, pin its digest:
#   docker build --build-arg BASE=python:3.13-slim@sha256:... .
ARG BASE=python:3.13-slim

FROM ${BASE} AS builder
COPY requirements.txt /
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps \
    --only-binary=:all: --no-compile --target=/app --requirement=/requirements.txt
COPY exporter/borgbase_exporter /app/borgbase_exporter
COPY LICENSE /app/LICENSE
# Compiled now, as nothing can be written later; unchecked, as files do not change in an image.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash /app

FROM ${BASE}
LABEL org.opencontainers.image.title="borgbase-exporter" \
      org.opencontainers.image.description="Prometheus exporter for BorgBase" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
COPY --from=builder /app /app
ENV PYTHONPATH=/app \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# By number, so that Kubernetes can tell that it is not root. Nothing is written: --read-only works.
USER 65532:65532
EXPOSE 10133
# For the default address without TLS; with others, give your own --health-cmd or --no-healthcheck.
# With users in --web.config.file, it needs --web.open-probes.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 10133, timeout=4); c.request('GET', '/-/healthy'); raise SystemExit(c.getresponse().status != 200)"]
# A list, so that no shell stands between the exporter and SIGTERM: it ends within a second.
ENTRYPOINT ["python", "-m", "borgbase_exporter"]
