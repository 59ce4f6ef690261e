//! The admission webhook as a process, asked by a small API server of the tests: what it answers,
//! the certificate that it is believed by, who leads, and how it ends.

mod admissions;
mod bounds;
mod certificates;
mod shutdown;
mod startup;
mod watchdog;
