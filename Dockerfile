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
COPY k8s/program.sh k8s/program.sh
RUN mkdir -p /out/bin && cp "$(sh k8s/program.sh)" /out/bin/bfb

FROM scratch
COPY --from=build /out/ /
# `kubectl exec POD -c bfb -- bfb status` finds it by its name.
ENV PATH=/bin
USER 65532:65532
ENTRYPOINT ["/bin/bfb"]
CMD ["--help"]
