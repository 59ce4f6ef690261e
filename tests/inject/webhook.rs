//! The admission webhook as a process, with a small API server of the tests: its responses, its
//! certificate and the bundles, the election of the leader, and the shutdown.

mod admissions;
mod bounds;
mod certificates;
mod shutdown;
mod startup;
mod watchdog;
