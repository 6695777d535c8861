# syntax=docker/dockerfile:1
#
# docker build --build-arg PUSHHUB_COMMIT="$(git rev-parse --short HEAD)" -t pushhub:0.1.0 .
#
# Two stages: the compiler stays behind. Both are Debian 12, so that the binary meets the C library it was linked
# with. For releases pin both images by digest.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY protocol protocol
COPY delivery delivery
COPY loadtest loadtest
COPY servers servers
COPY hub hub
# Shown by `pushhub_build_info`; .git is not in the build's context.
ARG PUSHHUB_COMMIT=unknown
# The caches keep dependencies between builds, and are in no layer; what is wanted is copied out of them. Line tables
# are three quarters of the binary (105 MB); function names stay, for the log of a panic.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p hub \
    && strip --strip-debug -o /pushhub target/release/pushhub \
    && mkdir /storage

# C library, libgcc, CA certificates, time zones and a user; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="pushhub" \
      org.opencontainers.image.description="Real-time push hub with a durable inbox for every user" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /pushhub /usr/local/bin/pushhub
# A volume that is mounted here takes over the owner.
COPY --from=build --chown=65532:65532 /storage /var/lib/pushhub
# In a container the other side is never this host's loopback.
ENV BIND_ADDRESS=0.0.0.0 \
    USER_STORAGE_PATH=/var/lib/pushhub/user_storage \
    DATABASE_BACKUP_PATH=/var/lib/pushhub/backups
# A number, because Kubernetes cannot tell whether a name is root.
USER 65532:65532
EXPOSE 8080 8081
VOLUME /var/lib/pushhub
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/pushhub"]
CMD ["serve"]
