//! Injection: adds the sidecar to pods of Kubernetes, and removes it again.
//!
//! `decide.rs` decides on one pod, given as JSON. The result is [`Additions`], or every
//! `InjectionRefusal` at once. The additions become a JSON Patch for an admission review
//! ([`Additions::patch`]), and [`manifest`] writes them into the text of a manifest without
//! changing a byte of the rest. `uninject` removes them again. All of this is pure; only `webhook`
//! (a feature of the crate) speaks to a cluster. `sidecar_container.rs` and `volumes.rs` build the
//! sidecar of a pod, and the table of [`settings`](crate::settings) has the annotations that
//! configure it.
//!
//! A sidecar needs Kubernetes 1.29 or newer: an older version ignores `restartPolicy` in
//! `initContainers`, and would wait for the sidecar to end before it starts the application.

mod annotations;
mod change;
mod container_resources;
mod decide;
pub mod manifest;
mod parse;
mod pod;
mod pod_annotations;
mod refusal;
mod sidecar_container;
mod sidecar_settings;
mod volumes;
#[cfg(feature = "webhook")]
pub mod webhook;

#[cfg(test)]
mod tests;

pub use change::Additions;
pub use decide::{Injection, SkipReason};
pub use pod_annotations::Defaults;
