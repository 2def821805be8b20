# One static binary in an image without a shell. It serves, resolves and
# registers; clones that run as processes of this machine need their programs
# beside it, so run those on a machine and not in this image.

FROM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# SQLite is C and linked statically; without loadable extensions, which would
# need the dynamic linker, and with Go's own resolver and user lookup.
RUN CGO_ENABLED=1 go build -trimpath \
        -tags netgo,osusergo,sqlite_omit_load_extension \
        -ldflags '-s -w -linkmode external -extldflags "-static"' \
        -o /out/clonegate ./cmd/clonegate \
    && mkdir -m 0700 /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/clonegate /usr/bin/clonegate
COPY --from=build --chown=65532:65532 /out/data /var/lib/clonegate
USER 65532:65532
ENV CLONEGATE_DATA=/var/lib/clonegate
VOLUME /var/lib/clonegate
EXPOSE 443 80 53/udp 53/tcp
ENTRYPOINT ["/usr/bin/clonegate"]
CMD ["serve", "--config", "/etc/clonegate/clonegate.yaml"]
