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

# debian12's libc, authorities and a user 65532; no shell and no package manager.
FROM gcr.io/distroless/base-debian12:nonroot
COPY --from=build /pgtier /usr/local/bin/pgtier
COPY --from=build /src/configs/pgtier.yaml /usr/share/doc/pgtier/pgtier.yaml
COPY --from=build /src/LICENSE /usr/share/doc/pgtier/LICENSE
# Inside a container loopback reaches nobody.
ENV PGTIER_LISTEN=0.0.0.0:6432 PGTIER_HTTP=0.0.0.0:6433
EXPOSE 6432 6433
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/local/bin/pgtier", "healthcheck", "--http", "127.0.0.1:6433"]
ENTRYPOINT ["/usr/local/bin/pgtier"]
CMD ["serve"]
