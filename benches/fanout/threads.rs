//! CPU time by thread, as the scheduler counts it.

use std::collections::BTreeMap;
use std::time::Duration;

/// CPU time of a process's threads, by their names.
#[derive(Debug, Clone, Default)]
pub struct Threads(BTreeMap<String, Duration>);

impl Threads {
    /// What the threads of `pid` have used so far.
    pub fn of(pid: u32) -> Self {
        let mut threads = BTreeMap::<_, Duration>::new();
        for entry in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
            // A thread may end meanwhile.
            let Ok(name) = std::fs::read_to_string(entry.path().join("comm")) else { continue };
            let spent = spent(&entry.path().join("schedstat").to_string_lossy());
            *threads.entry(name.trim().to_owned()).or_default() += spent.unwrap_or_default();
        }
        Self(threads)
    }

    /// What was used since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let used = |(name, time): (&String, &Duration)| {
            (name.clone(), time.saturating_sub(before.0.get(name).copied().unwrap_or_default()))
        };
        Self(self.0.iter().map(used).collect())
    }

    /// The time of all whose name satisfies `wanted`.
    pub fn sum(&self, wanted: impl Fn(&str) -> bool) -> Duration {
        self.0.iter().filter(|(name, _)| wanted(name)).map(|(_, time)| *time).sum()
    }
}

/// CPU time of the calling thread.
pub fn own() -> Duration {
    spent("/proc/thread-self/schedstat").unwrap_or_default()
}

/// The first field of a `schedstat` file: nanoseconds on a CPU.
fn spent(path: &str) -> Option<Duration> {
    let text = std::fs::read_to_string(path).ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
