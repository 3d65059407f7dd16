# The service: `docker compose up`, see compose.yaml. The model and the datastore are mounted, never part of the image.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY silo silo
COPY datastore datastore
COPY training training
COPY serving serving
RUN pip install --no-cache-dir --no-compile -c constraints.txt ".[cpu]" "psycopg[binary]>=3.2"

RUN useradd --uid 10001 --create-home silo
USER silo
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"
STOPSIGNAL SIGTERM
# Other than this machine's addresses are listened to only with keys.
CMD ["silo", "serve", "--model", "/data/model", "--datastore", "/data/store", "--host", "0.0.0.0"]
