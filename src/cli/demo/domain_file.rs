//! The domain file of the demo: `examples/customer/`, carried in the binary so that the demo works from any folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const DOMAIN: &str = include_str!("../../../examples/customer/customer.yaml");

/// The schema of its `v2`.
pub(super) const SCHEMA: &str = include_str!("../../../examples/customer/customer.v2.json");

/// Writes the domain file and its schema into `dir`, and returns the domain file's path.
pub(crate) fn write_domain(dir: &Path) -> io::Result<PathBuf> {
    let path = dir.join("customer.yaml");
    fs::create_dir_all(dir)?;
    fs::write(dir.join("customer.v2.json"), SCHEMA)?;
    fs::write(&path, DOMAIN)?;
    Ok(path)
}
