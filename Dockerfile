# Two stages: the wheels are built in the first, the second holds what runs and nothing to build with.
FROM python:3.11-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --constraint constraints.txt --wheel-dir /wheels .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /data riverchief && mkdir -p /data && chown riverchief /data
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl && rm -rf /wheels
COPY config /app/config
USER riverchief
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["riverchief"]
CMD ["serve"]
