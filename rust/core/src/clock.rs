//! The clock that never steps: monotonic, one for all processes of a boot of the machine.
use std::sync::OnceLock;

/// Milliseconds on it. It stands still while the machine sleeps, and begins anew with each boot.
#[cfg(unix)]
pub fn now_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

/// Milliseconds on it; here each process has its own.
#[cfg(not(unix))]
pub fn now_ms() -> i64 {
    static BEGUN: OnceLock<std::time::Instant> = OnceLock::new();
    let since = BEGUN.get_or_init(std::time::Instant::now).elapsed();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Which boot this is; empty where the system does not say, and then no other process's times can be told from ours.
pub fn boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        boot.trim().to_owned()
    })
}

/// Which of the boot's clocks is ours: a container may have one that is set apart.
pub fn namespace() -> &'static str {
    static NAMESPACE: OnceLock<String> = OnceLock::new();
    NAMESPACE.get_or_init(|| {
        std::fs::read_link("/proc/self/ns/time").map(|link| link.display().to_string()).unwrap_or_default()
    })
}
