//! A control group that limits the memory of a process, of either version of the kernel's interface.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The names of one version's files.
#[derive(Clone, Copy, Debug)]
struct Files {
    root: &'static str,
    limit: &'static str,
    peak: &'static str,
}

const VERSION_1: Files =
    Files { root: "/sys/fs/cgroup/memory", limit: "memory.limit_in_bytes", peak: "memory.max_usage_in_bytes" };
const VERSION_2: Files = Files { root: "/sys/fs/cgroup", limit: "memory.max", peak: "memory.peak" };

/// A control group of this process's own; its processes must have ended when it is dropped.
#[derive(Debug)]
pub(crate) struct MemoryGroup {
    folder: PathBuf,
    files: Files,
}

impl MemoryGroup {
    /// Makes a group whose processes use at most `bytes` together.
    pub(crate) fn new(bytes: u64) -> Result<Self> {
        let files = if Path::new(VERSION_1.root).join(VERSION_1.limit).exists() { VERSION_1 } else { VERSION_2 };
        let folder = Path::new(files.root).join(format!("weft-bench-{}", host_pid()));
        fs::create_dir(&folder).with_context(|| format!("cannot make the control group {}", folder.display()))?;
        let group = Self { folder, files };
        let limit = group.folder.join(files.limit);
        fs::write(&limit, bytes.to_string()).with_context(|| format!("cannot write {}", limit.display()))?;
        Ok(group)
    }

    /// The file that a process writes `0` to in order to move itself into the group.
    pub(crate) fn processes(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// The most bytes that the group used at one time, the kernel's memory for its sockets and files included.
    pub(crate) fn peak(&self) -> Option<u64> {
        fs::read_to_string(self.folder.join(self.files.peak)).ok()?.trim().parse().ok()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// A number that no other benchmark on this machine has. The process id will not do: every sandbox counts anew.
fn host_pid() -> u64 {
    use std::os::linux::fs::MetadataExt;
    fs::metadata("/proc/self/ns/pid").map(|namespace| namespace.st_ino()).unwrap_or_default()
}
