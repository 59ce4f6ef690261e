# One static program in an empty image: no shell, no libc, no user but a number.
#
#   docker build -t bfb:0.1.0 .
#
# `make image` makes the same image from a program that is built already, without a base image to be fetched.
FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY examples examples
COPY src src
# For the machine that builds. glibc resolves names in a static program without any file beside it from 2.34 on; this one has 2.36.
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
  && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bin bfb --target "$target" \
  && mkdir -p /out/bin && cp "target/$target/release/bfb" /out/bin/bfb

FROM scratch
COPY --from=build /out/ /
# `kubectl exec POD -c bfb -- bfb status` finds it by its name.
ENV PATH=/bin
USER 65532:65532
ENTRYPOINT ["/bin/bfb"]
CMD ["--help"]
