//! What this process uses of its machine, as the kernel counts it.

use serde::Serialize;
use utoipa::ToSchema;

/// What the process uses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Process {
    /// CPU time of all threads, in the program and in the kernel.
    pub(crate) cpu_seconds: f64,
    /// Memory that is in RAM.
    pub(crate) resident_bytes: u64,
    /// Open file descriptors.
    pub(crate) open_fds: u64,
    /// The most there may be.
    pub(crate) max_fds: Option<u64>,
    /// Threads.
    pub(crate) threads: u64,
    /// When it started, in seconds since 1970.
    pub(crate) start_seconds: f64,
}

/// The process as it is now; `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub(crate) fn read() -> Option<Process> {
    use procfs::{CurrentSI as _, process};

    let me = process::Process::myself().ok()?;
    let stat = me.stat().ok()?;
    let ticks = procfs::ticks_per_second() as f64;
    let booted = procfs::KernelStats::current().ok()?.btime as f64;
    let max_fds = me.limits().ok().and_then(|limits| match limits.max_open_files.soft_limit {
        process::LimitValue::Value(most) => Some(most),
        process::LimitValue::Unlimited => None,
    });
    Some(Process {
        cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
        resident_bytes: stat.rss * procfs::page_size(),
        open_fds: me.fd_count().ok()? as u64,
        max_fds,
        threads: u64::try_from(stat.num_threads).ok()?,
        start_seconds: booted + stat.starttime as f64 / ticks,
    })
}

/// As above.
#[cfg(not(target_os = "linux"))]
pub(crate) fn read() -> Option<Process> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        fs::File,
        time::{SystemTime, UNIX_EPOCH},
    };

    use super::*;

    #[test]
    fn what_the_process_takes_shows() {
        let before = read().unwrap();
        let files: Vec<File> = (0..50).map(|_| File::open("/dev/null").unwrap()).collect();
        let memory = vec![1_u8; 64 << 20];
        let after = read().unwrap();
        // Other tests may be at work in this process, and give back what they had.
        assert!(after.open_fds >= files.len() as u64, "{after:?}");
        assert!(after.resident_bytes > memory.len() as u64, "{after:?}");
        assert!(after.threads >= 1 && after.cpu_seconds >= before.cpu_seconds);
        assert!(after.max_fds.is_none_or(|most| most > after.open_fds));
        let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() - after.start_seconds;
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }
}
