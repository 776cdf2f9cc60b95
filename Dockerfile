# The ledger in an image: one static binary, and no shell.
#
#   docker build -t stockledger .
#   docker run -p 127.0.0.1:8080:8080 -v stockledger:/data -e STOCKLEDGER_HTTP_TOKEN=… -e STOCKLEDGER_TOKEN=… stockledger
#
# It answers HTTP on all addresses of the container, so it wants a token. The health check is the command status, which
# shows its own, so give the same in both variables.

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.release=${VERSION}" -o /out/stockledger ./cmd/stockledger \
 && mkdir -p /out/data /out/tmp && chmod 1777 /out/tmp

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/tmp /tmp
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build /out/stockledger /stockledger
ENV STOCKLEDGER_DATA=/data STOCKLEDGER_HTTP=0.0.0.0:8080 STOCKLEDGER_SERVER=http://127.0.0.1:8080
USER 65532:65532
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s CMD ["/stockledger", "status"]
ENTRYPOINT ["/stockledger"]
CMD ["serve"]
