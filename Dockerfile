# Python, the libraries and our packages are put together in the first stages; the last has what runs, no pip cache, no
# compiler. The libraries are a layer of their own: it is made again only when pyproject.toml or constraints.txt changes.
# With its digest, or from another registry: docs/operations/install.md.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS libraries
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
    > requirements.txt \
 && python -m venv --without-pip /opt/riverchief \
 && pip --python /opt/riverchief install --constraint constraints.txt --requirement requirements.txt
# What nothing loads, 66 MB: numpy's tests and headers, C sources, debugging symbols. Extension modules that wheels came with
# libraries for are left alone: their ELF headers were rewritten, and strip may break them. Byte code stays, because the
# file system of a running container is read-only and every start would compile 87 MB of it again.
RUN apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends binutils \
 && cd /opt/riverchief/lib/python3.11/site-packages \
 && find numpy -depth -type d \( -name tests -o -name include \) -exec rm -r {} + \
 && find . -type f \( -name '*.c' -o -name '*.pyx' \) -delete \
 && find aiohttp bottleneck fontTools frozenlist httptools multidict propcache sqlalchemy uvloop yaml -name '*.so' \
    -exec strip --strip-debug {} +
# pg_dump and pg_restore for backups, without the Perl that their package depends on; and of the Chinese fonts the one
# whose letters evidence and labels embed.
RUN apt-get update --quiet && cd /tmp && apt-get download --quiet postgresql-client-15 fonts-noto-cjk \
 && dpkg --extract postgresql-client-15_*.deb /client && dpkg --extract fonts-noto-cjk_*.deb /fonts

FROM libraries AS own
COPY . .
RUN pip --python /opt/riverchief install --no-deps --prefix=/own .

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="riverchief" \
      org.opencontainers.image.description="From a sensor in the river to a closed case on the river chief's desk" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --user-group --home-dir /data --no-create-home --shell /usr/sbin/nologin riverchief \
 && install --directory --owner=riverchief --group=riverchief --mode=0700 /data
RUN apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends libpq5 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=libraries /client/usr/lib/postgresql/15/bin/pg_dump /client/usr/lib/postgresql/15/bin/pg_restore /usr/local/bin/
COPY --from=libraries /fonts/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc /usr/share/fonts/opentype/noto/
COPY --from=libraries /opt/riverchief /opt/riverchief
COPY --from=own /own /opt/riverchief
ENV PATH=/opt/riverchief/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 RIVERCHIEF_DATA=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080 9212 9651
# Of `serve` and `api`; where only `ingest` or `worker` runs, switch it off.
HEALTHCHECK --interval=15s --timeout=8s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
ENTRYPOINT ["riverchief"]
CMD ["serve"]
