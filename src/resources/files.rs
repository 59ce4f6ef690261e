//! Reads files whose size has a bound: a flag may name a device, or a log that has grown.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The bytes of the file at `path`. A file of more than `max_bytes` is an error of the kind
/// [`FileTooLarge`](io::ErrorKind::FileTooLarge) that names the bound.
pub fn read_at_most(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte beyond the bound shows that the file is too large.
    File::open(path)?.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        let (unit, divisor) =
            if max_bytes >= 1 << 20 { ("MiB", 1 << 20) } else { ("KiB", 1 << 10) };
        let most = format!("{} {unit}", max_bytes / divisor);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, most));
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_have_as_many_bytes_and_an_endless_one_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [b'x'; 1024]).unwrap();
        assert_eq!(read_at_most(file.path(), 1024).unwrap().len(), 1024);
        for (path, max_bytes) in [(file.path(), 1023), (Path::new("/dev/zero"), 1024)] {
            let error = read_at_most(path, max_bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        }
    }
}
