//! Beside every consumer, in a real cluster: `bfb webhook` and the pods that it injects, against a
//! real kube-apiserver with its controllers, and etcd. `make test-cluster` builds them and runs
//! this.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]

mod cert_manager;
mod certificates;
mod kinds;
mod leaders;
mod manifests;
mod opt_outs;
mod order;
mod outage;
mod restarts;
mod rights;
mod support;
