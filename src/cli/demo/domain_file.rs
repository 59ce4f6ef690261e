//! The domain file of the demo: `examples/customer/`, carried in the binary so that the demo works
//! from any folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const DOMAIN: &str = include_str!("../../../examples/customer/customer.yaml");

/// The schema of its `v2`.
pub(super) const SCHEMA: &str = include_str!("../../../examples/customer/customer.v2.json");

/// Writes the domain file, with the upstreams' hosts in place of its variables, and its schema into
/// `dir`. Returns the domain file's path. Without variables, `bfb doctor` and `bfb get --domain`
/// read it too.
pub(crate) fn write_domain(dir: &Path, hosts: &[(&str, String)]) -> io::Result<PathBuf> {
    let path = dir.join("customer.yaml");
    fs::create_dir_all(dir)?;
    fs::write(dir.join("customer.v2.json"), SCHEMA)?;
    let filled = hosts.iter().fold(DOMAIN.to_owned(), |text, (name, host)| fill(&text, name, host));
    fs::write(&path, filled)?;
    Ok(path)
}

/// Puts `value` in place of `${name:-…}`.
fn fill(text: &str, name: &str, value: &str) -> String {
    let Some((before, rest)) = text.split_once(&format!("${{{name}:-")) else {
        return text.to_owned();
    };
    let after = rest.split_once('}').map_or("", |(_, after)| after);
    format!("{before}{value}{after}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;

    #[test]
    fn every_variable_of_the_example_is_filled_in() {
        let dir = std::env::temp_dir().join(format!("bfb-domain-file-{}", std::process::id()));
        let names = ["PROFILE_HOST", "FAVORITES_HOST", "REVIEWS_HOST", "ORDERS_HOST"];
        let file = write_domain(&dir, &names.map(|name| (name, "localhost:1".to_owned()))).unwrap();
        let text = fs::read_to_string(file).unwrap();
        fs::remove_dir_all(dir).unwrap();
        assert!(!text.contains("${"), "{text}");
        assert_eq!(text.matches("https://localhost:1/").count(), 4);
    }
}
