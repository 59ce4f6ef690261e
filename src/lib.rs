//! `bfb`, a Backend for Backend: a small process beside each consuming service. The service asks
//! localhost for a key and gets its whole dataset, gathered from the owning services over mutual
//! TLS: complete or not at all.
//!
//! # The parts
//!
//! ```text
//!   main · cli                 one file a command; the only place that prints
//!       │
//!   sidecar                    puts the parts together, supervises, reloads, drains
//!       │
//!   inject                     Kubernetes manifests and admission reviews: adds sidecars to pods
//!       │
//!   supervisor                 tasks, signals, drain: how a long-running process lives and ends
//!       │
//!   serve · admin              HTTP on localhost; the one place where errors become HTTP
//!       │
//!   cache                      memory and Redis, and the flights that fill them
//!       │
//!   bus                        the coherence protocol over Redis
//!       │
//!   collect                    all parts or nothing; the rounds of a snapshot
//!       │
//!   sources                    one part from one HTTP service or database, within bounds
//!       │
//!   identity                   certificates: load, rotate, verify, prove mutual
//!       │
//!   http                       listeners, connections, their bounds and their drain; problems
//!       │
//!   coherence                  the protocol: may an entry be served, joined, stored? Pure
//!       │
//!   domain · shape             the domain file and its checks; jq. Pure
//!       │
//!   settings                   every flag, variable and annotation, once, with its values. Pure
//!       │
//!   resources                  the accounts of memory and of CPU time that all work draws from
//!   diagnostics                problems with places, quoting, near names, the YAML tree. Pure
//!   log_filter                 log filters, parsed and bounded. Pure
//! ```
//!
//! Imports go down only (`tests/layout.rs` holds them to it), and the files of a part import each
//! other in one direction, with two exceptions (`tests/import_circles.rs`).
//!
//! # The life of a request
//!
//! 1. [`crate::http::accept`] takes a connection within a bound, where another one ends for it if
//!    need be; a request that takes too long to arrive ends its own.
//! 2. [`serve::Consumers`] checks `Host`, finds the version in the current [`serve::Routes`],
//!    decodes and checks the key. No source has been asked yet.
//! 3. [`cache::Cache`] answers from memory where [`coherence::Replica`] holds the entry valid and
//!    the domain file in force holds it fresh (`cache/policy.rs`). Else the caller joins or begins
//!    a flight. A caller that leaves does not end the flight for the others; a caller that shares
//!    one keeps enough of its deadline for a flight of its own; and once all callers have left, the
//!    flight is abandoned, but not in the middle of a request (`cache/flight.rs`). A flight
//!    (`cache/fetcher.rs`) reserves its memory, looks into Redis, where a script checks each entry
//!    before it hands it out, and claims the key there: one sidecar of the fleet collects it, and
//!    the others wait for the entry that it stores.
//! 4. [`collect::Collector`] asks every [`sources::Client`] as soon as the parts that its URL names
//!    have arrived; with `atomicity: snapshot` further rounds confirm that all parts were current
//!    at one instant. One failure cancels the rest.
//!    Sources that read one database are asked in one transaction.
//! 5. A client waits for a slot, asks its breaker, and sends a GET, or a transaction's statements
//!    (`sources/postgres/transaction.rs`), over a connection that
//!    [`identity::Connector`] has proven mutual (`identity/connector.rs`, `prove`) before the first
//!    byte of a request; it retries
//!    within its budget and the deadline.
//! 6. The parts are joined byte for byte into a [`collect::Dataset`], which memory and Redis store
//!    unless it was invalidated during the flight. A version's [`shape::Program`] runs on it,
//!    within a budget, away from the event loop, when it is its domain's turn.
//! 7. The answer is a 200 with every part, or one [`serve::consumer_problem::ConsumerProblem`] that
//!    holds none.
//!
//! # The bounds of memory and CPU time
//!
//! Memory whose size input decides is reserved in one [`resources::MemoryAccount`]
//! (`--memory-limit`) before it is used: a body as it is announced, a dataset until its last reader
//! is done, a program's values, an answer that is read slowly. Work that does not fit waits within
//! its deadline and is then `overloaded`; memory outside of the account (the allocator's pages,
//! connections' buffers) is measured and counts too. Programs and reviews, whose duration input
//! decides, run on one [`resources::ComputePool`], by a clock that they check. Both are fair
//! between domains: none can take all of it.
//!
//! # The life of an invalidation
//!
//! `POST /invalidate` (`bfb invalidate`) appends an entry to the domain's log, and stamps the keys
//! and tags that it names with the entry's `seq`. No cache is searched and nothing is deleted: an
//! entry in memory carries the fence of the flight that read it, and is valid only while no stamp
//! is newer; the same holds for a flight in progress. A fleet of one has acknowledged it by then.
//! With Redis the log is there: one script appends, stamps and publishes; every sidecar applies the
//! entries that it receives or reads, and reports its `seq` with its next heartbeat; the
//! invalidator waits until all have, or until the leases of silent ones are over. Listeners get an
//! event ([`bus::BusEvent`], and for collections [`cache::CollectionEvent`]): `GET /events`,
//! `bfb tail`.
//!
//! # The life of a change
//!
//! Files are looked at twice a second. A new identity that is valid goes to every client through a
//! `watch`; each then opens new connections and lets the old ones end. A domain file that is valid
//! becomes a new table, swapped whole: running requests finish on the old one. A broken file is
//! reported, counted, and changes nothing.
//!
//! # The life of a pod's sidecar
//!
//! `bfb inject` reads a manifest as a tree with places ([`inject::manifest`], over
//! `diagnostics::yaml`) and finds its pods. `inject/decide.rs` decides on each, as JSON: the
//! additions, or every reason against them. The additions become splices of the text, which is read
//! again and handed out only if it is exactly what was meant; for an admission review the same
//! additions are a JSON Patch.
//!
//! `inject::webhook` (where the feature `webhook` is on) answers those reviews. Beside that it
//! keeps its certificate trusted: one replica leads, issues certificates and writes the bundle that
//! API servers trust, with the next certificate before it is served and the last one until it
//! expires.
//!
//! # What is absent, on purpose
//!
//! - `coherence`, `shape`, `resources` and `diagnostics` import no other room, and `domain` imports
//!   `diagnostics` only: the checker is handed a jq compiler as a function ([`domain::World`]).
//! - The protocol has no switches. Its rules can be taken away only in a build with the feature
//!   `removable-guards`, which is for tests alone ([`coherence::Guard`]); `tests/coherence` checks
//!   it with them and without.
//! - `http` knows neither its handlers nor their answers: `serve`, `admin` and the webhook stand
//!   beside each other on it.
//! - `collect` does not know HTTP towards consumers, and `sources` does not know that there is more
//!   than one source.
//! - `inject` knows nothing of datasets or of domain files. The decision on a pod is pure: it asks
//!   no cluster, and reads no file. So are the decisions on a certificate's rotation and on the
//!   leader; only the webhook's `cluster.rs` speaks to an API server.
//! - No part of a dataset is parsed and written again on its way through: a [`sources::Part`] is
//!   the bytes that came.
//! - No error text, log line or metric holds a key or a part's data unless the operator asked for
//!   it.

pub mod admin;
pub mod bus;
pub mod cache;
pub mod cli;
pub mod coherence;
pub mod collect;
pub mod diagnostics;
pub mod domain;
pub mod http;
pub mod identity;
pub mod inject;
pub mod log_filter;
pub mod resources;
pub mod serve;
pub mod settings;
pub mod shape;
pub mod sidecar;
pub mod sources;
pub mod supervisor;
