//! Beside every consumer: the sidecar into pods of Kubernetes.
//!
//! `decide.rs` decides on one pod, as JSON: it comes back with [`Additions`], or with every
//! `InjectionRefusal` at once. The additions become a JSON Patch for an admission review
//! ([`Additions::patch`]), and [`manifest`] writes them into the text of a manifest without
//! touching a byte of the rest. `uninject` takes them away again. Nothing of that asks a cluster
//! or reads a file, and `webhook` (a feature of the crate) does so around it; the sidecar that a
//! pod gets is `sidecar_container.rs` and `volumes.rs`, what may be asked of it is in the table of
//! [`settings`](crate::settings).
//!
//! What goes in needs Kubernetes 1.29 or newer: an older one does not know `restartPolicy` in
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
