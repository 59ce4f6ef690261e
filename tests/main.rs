//! Everything with a socket or a process: one file a promise, one vocabulary in `support`.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]

mod admin;
mod bounded;
mod bus;
mod cache;
mod commands;
mod complete;
mod consumer;
mod databases;
mod demo;
mod docs;
mod doctor;
mod domain_file;
mod fleet;
mod history;
mod hostile;
mod identities;
mod import_circles;
mod inject;
mod k8s;
mod layout;
mod lifecycle;
mod link;
mod naming;
mod observability;
mod settings;
mod shape;
mod snapshot;
mod soak;
mod sources;
mod stampede;
mod support;
mod traces;
