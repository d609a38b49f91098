# One image for the launcher, the workers, on a Dask cluster too, and the dashboard. It holds no address and no password.
FROM python:3.13-slim

ENV PATH=/opt/parsimony/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The packages first and alone, so that a change of the source does not load 3 GB again. In an environment of
# their own: some bases bring packages that pip cannot replace.
WORKDIR /build
COPY pyproject.toml constraints.txt ./
RUN python -m venv /opt/parsimony \
 && python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['cluster'], sep='\n')" > requirements.txt \
 && pip install --constraint constraints.txt --requirement requirements.txt

COPY . .
RUN pip install --no-deps . && rm -rf /build

# New volumes on these folders take over their owner.
RUN useradd --uid 1000 --create-home search \
 && install --directory --owner search --group search /data /data/artifacts
USER search
WORKDIR /data

# No entry point: `docker compose run launcher search launch --trials 200` is typed as on any machine.
CMD ["search", "--help"]
