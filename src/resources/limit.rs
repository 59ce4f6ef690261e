//! The memory that the process may hold: `--memory-limit`, or the limit of its cgroup.

use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// The memory of the process beside its work: the program, the runtime's threads, buffers of open
/// connections.
const PROCESS_BYTES: u64 = 24 * MIB;
/// The least memory for work beside the memory tier, so that datasets can be collected at all.
const WORK_BYTES_MIN: u64 = 16 * MIB;
/// The least that the limit must leave beside the memory tier.
const BESIDE_MEMORY_MIN: u64 = PROCESS_BYTES + WORK_BYTES_MIN;
/// The share of a cgroup's limit that is left to the kernel (socket buffers count as the cgroup's)
/// and to the allocator.
const CGROUP_RESERVE_DIVISOR: u64 = 8;
/// The limit where there is neither a flag nor a cgroup's.
const DEFAULT_BYTES: u64 = 256 * MIB;

/// How much memory the process may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    bytes: u64,
}

/// The memory tier does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "`--memory {}` does not fit into the {} that the process may hold, \
     of which it needs {} beside it: \
     expected at most `--memory {}`, or `--memory-limit {}` or more (in a container: \
     its memory limit, less an eighth)",
    mib(*.memory), mib(*.limit), mib(BESIDE_MEMORY_MIN),
    mib(.limit.saturating_sub(BESIDE_MEMORY_MIN)), mib(.memory.saturating_add(BESIDE_MEMORY_MIN))
)]
pub struct MemoryLimitError {
    /// `--memory`, in bytes.
    pub memory: u64,
    /// The limit of the process, in bytes.
    pub limit: u64,
}

/// Rounded up, so that the number in the message is enough.
fn mib(bytes: u64) -> String {
    format!("{}MiB", bytes.div_ceil(MIB))
}

impl MemoryLimit {
    /// As `given`, else the cgroup's limit less a reserve, else 256 MiB.
    pub fn new(given: Option<u64>, cgroup: Option<u64>) -> Self {
        let of_cgroup = cgroup.map(|limit| limit - limit / CGROUP_RESERVE_DIVISOR);
        Self { bytes: given.or(of_cgroup).unwrap_or(DEFAULT_BYTES) }
    }

    /// The limit of the process, in bytes.
    pub fn bytes(self) -> u64 {
        self.bytes
    }

    /// The limit of its work, with the memory tier of `memory` bytes.
    pub fn for_work(self, memory: u64) -> Result<u64, MemoryLimitError> {
        let work = self.bytes.saturating_sub(PROCESS_BYTES);
        let fits = memory.checked_add(WORK_BYTES_MIN).is_some_and(|needed| needed <= work);
        if fits { Ok(work) } else { Err(MemoryLimitError { memory, limit: self.bytes }) }
    }

    /// The least limit of a container in which a memory tier of `memory` bytes fits.
    pub fn least_container(memory: u64) -> u64 {
        let limit = memory.saturating_add(BESIDE_MEMORY_MIN);
        limit.saturating_add(limit.div_ceil(CGROUP_RESERVE_DIVISOR - 1))
    }
}

/// The lowest memory limit of the process's cgroup and of those above it, in bytes; `None` where
/// there is none.
pub fn cgroup_limit() -> Option<u64> {
    let table = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let files = limit_files(&table, Path::new("/sys/fs/cgroup"));
    let limit = |file: PathBuf| parse_limit(&std::fs::read_to_string(file).ok()?);
    files.into_iter().filter_map(limit).min()
}

/// Where limits may stand, by cgroups(7): the unified hierarchy's line is `0::/path`, the one of
/// version 1 names `memory`.
fn limit_files(table: &str, root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in table.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // In a container the path may be the host's, which is not there: then the root is the
        // container's own.
        let below = root.join(path.trim_start_matches('/'));
        let folders = below.ancestors().take_while(|folder| folder.starts_with(&root));
        files.extend(folders.map(|folder| folder.join(file)));
    }
    files
}

/// `max`, or bytes; version 1 writes a huge number for none.
fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_goes_before_the_cgroup_and_the_cgroup_before_the_default() {
        let bytes = |given, cgroup| MemoryLimit::new(given, cgroup).bytes() / MIB;
        assert_eq!(bytes(Some(100 * MIB), Some(512 * MIB)), 100);
        assert_eq!(bytes(None, Some(256 * MIB)), 224);
        assert_eq!(bytes(None, None), 256);
    }

    #[test]
    fn a_memory_tier_that_does_not_fit_is_refused_with_what_would() {
        let limit = MemoryLimit::new(Some(256 * MIB), None);
        assert_eq!(limit.for_work(64 * MIB), Ok(232 * MIB));
        assert_eq!(limit.for_work(216 * MIB), Ok(232 * MIB));
        let error = limit.for_work(300 * MIB).expect_err("it is larger than the limit").to_string();
        assert!(error.contains("`--memory 300MiB` does not fit into the 256MiB"), "{error}");
        assert!(
            error.contains("`--memory 216MiB`") && error.contains("`--memory-limit 340MiB`"),
            "{error}"
        );
        assert!(limit.for_work(u64::MAX).is_err());
    }

    #[test]
    fn the_least_container_has_just_room_for_its_memory_tier() {
        for memory in [0, 64 * MIB, 1 << 30] {
            let least = MemoryLimit::least_container(memory);
            assert!(MemoryLimit::new(None, Some(least)).for_work(memory).is_ok(), "{memory}");
            assert!(
                MemoryLimit::new(None, Some(least - MIB)).for_work(memory).is_err(),
                "{memory}"
            );
        }
    }

    #[test]
    fn limits_are_looked_for_up_to_the_root_in_both_versions() {
        let files = |table| -> Vec<String> {
            let files = limit_files(table, Path::new("/cg"));
            files.iter().map(|file| file.display().to_string()).collect()
        };
        let unified = ["/cg/kubepods/pod1/memory.max", "/cg/kubepods/memory.max", "/cg/memory.max"];
        assert_eq!(files("0::/kubepods/pod1\n"), unified);
        assert_eq!(files("0::/\n"), ["/cg/memory.max"]);
        let first = ["/cg/memory/a/memory.limit_in_bytes", "/cg/memory/memory.limit_in_bytes"];
        assert_eq!(files("5:cpu,cpuacct:/x\n4:memory:/a\n"), first);
        assert!(files("nonsense\n\n").is_empty());
    }

    #[test]
    fn a_limit_is_a_number_that_some_machine_has() {
        assert_eq!(parse_limit("268435456\n"), Some(256 * MIB));
        assert_eq!(parse_limit("max\n"), None);
        assert_eq!(parse_limit("9223372036854771712\n"), None);
    }
}
