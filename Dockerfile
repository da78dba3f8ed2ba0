# docker build -t pgtier --build-arg VERSION=0.1.0 --build-arg COMMIT=$(git rev-parse HEAD) .
# docker run -p 6432:6432 pgtier serve --manager postgres://…
# docker run -p 6432:6432 -v ./pgtier.yaml:/etc/pgtier/pgtier.yaml:ro pgtier serve --config /etc/pgtier/pgtier.yaml

# The SQL parser is C, so the build needs a compiler and the image needs the same libc.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=0.1.0-dev
ARG COMMIT=unknown
RUN CGO_ENABLED=1 go build -trimpath -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" -o /pgtier ./cmd/pgtier

# debian12's libc and authorities, and PostgreSQL's client programs: pg_dump gives new shards their schema (pgtier reshard), and reads servers up to its own version.
FROM debian:bookworm-slim
ARG PG_CLIENT=18
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates postgresql-common \
	&& /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y bookworm \
	&& apt-get install -y --no-install-recommends postgresql-client-${PG_CLIENT} \
	&& rm -rf /var/lib/apt/lists/* \
	&& useradd --uid 65532 --no-create-home --shell /usr/sbin/nologin pgtier
ENV PGTIER_PG_BIN=/usr/lib/postgresql/${PG_CLIENT}/bin
COPY --from=build /pgtier /usr/local/bin/pgtier
COPY --from=build /src/configs/pgtier.yaml /usr/share/doc/pgtier/pgtier.yaml
COPY --from=build /src/LICENSE /usr/share/doc/pgtier/LICENSE
# Inside a container loopback reaches nobody.
ENV PGTIER_LISTEN=0.0.0.0:6432 PGTIER_HTTP=0.0.0.0:6433
USER 65532
EXPOSE 6432 6433
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/local/bin/pgtier", "healthcheck", "--http", "127.0.0.1:6433"]
ENTRYPOINT ["/usr/local/bin/pgtier"]
CMD ["serve"]
