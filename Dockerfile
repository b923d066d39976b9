# One image with the `phasework` command and the workers of the search example.
# Checked by reading only: it has not been built where it was written.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches live in the builder, not in the image, so the programs are copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked --bins --package phasework --package phasework-example-search \
 && install -D --target-directory=/programs target/dist/phasework target/dist/search-worker

FROM debian:bookworm-slim
# Roots of trust, for brokers, stores and notifications over TLS.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --no-create-home phasework
COPY --from=build /programs/ /usr/local/bin/
USER phasework
EXPOSE 7180
CMD ["phasework", "serve"]
