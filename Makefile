# The commands of the README: each needs only a Rust toolchain (1.95 or newer), and installs the rest; `test-cluster` needs Go as
# well.
.PHONY: demo test test-cluster deps fuzz soak image test-image

# Four upstreams over mutual TLS and a sidecar on localhost:7070; Ctrl-C ends it. A demo needs nothing that is optional, and the
# program is built without; cargo shows how far it is.
demo: deps
	cargo run --no-default-features --bin bfb -- demo $(ARGS)

# Format, lints, documentation, all tests.
test:
	@sh tests/deps.sh test
	@sh tests/openapi-tools.sh
	@sh tests/database-servers.sh
	cargo fmt --check
	cargo clippy --all-targets --quiet -- -D warnings
	cargo clippy --no-default-features --quiet -- -D warnings
	cargo clippy --profile test --features removable-guards --bin bfb-removable-guards --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet --document-private-items
	@# For the tests that show that the history checker can fail; whoever runs them without this builds it then. With the same
	@# features of all dependencies as `make demo` has, so that those are built once for both.
	cargo build --quiet --no-default-features --features removable-guards --bin bfb-removable-guards
	cargo test --quiet
	@# What each guard of the coherence protocol prevents, over the same dependencies as the tests before.
	cargo test --quiet --features removable-guards --bin bfb-removable-guards

# The webhook, and what it injects, against a real API server with its controllers and etcd: the first time, Go builds those.
test-cluster:
	@sh tests/deps.sh cluster
	@sh tests/cluster/build.sh >/dev/null
	cargo clippy --quiet --test cluster -- -D warnings
	BFB_TEST_KUBERNETES="$$(sh tests/cluster/build.sh)" cargo test --quiet --test cluster

# What the crates need beyond Rust: a C compiler, for the cryptography and the allocator. (The tests also need a Redis.)
deps:
	@sh tests/deps.sh

# The fuzz targets, ten minutes each (`TIME=60` for one): needs the nightly toolchain and cargo-fuzz.
TIME ?= 600
fuzz:
	cargo +nightly fuzz run domain_file -- -max_total_time=$(TIME)
	cargo +nightly fuzz run url_template -- -max_total_time=$(TIME)
	cargo +nightly fuzz run manifest -- -max_total_time=$(TIME)
	cargo +nightly fuzz run review -- -max_total_time=$(TIME)
	cargo +nightly fuzz run redis_answers -- -max_total_time=$(TIME)
	cargo +nightly fuzz run shape -- -max_total_time=$(TIME) -timeout=30

# Honest and hostile load at once on one sidecar, for `TIME` seconds (ten minutes, unless said): the figures, and whether memory
# is flat. The suite has a minute of it.
soak:
	@sh tests/deps.sh test
	BFB_SOAK_SECONDS=$(TIME) cargo test --release --quiet --test promises soak:: -- --nocapture

# The image of the Dockerfile, from a program that is built here (no base image is fetched). Needs buildah.
IMAGE ?= localhost/bfb:0.1.0
image:
	@sh tests/deps.sh image
	sh k8s/image.sh "$$(sh k8s/program.sh)" $(IMAGE)

# The image, tried in containers: size, user, no network, names, the demo's upstreams and a sidecar. Needs root.
test-image: image
	sh tests/image.sh $(IMAGE)
