//! The monotonic clock, which all processes of one boot of a machine share.
use std::sync::OnceLock;

/// Return the clock's milliseconds. The clock stands still while the machine sleeps, and starts again at each boot.
#[cfg(unix)]
pub fn now_ms() -> i64 {
    // Not an `Instant`, because a lease needs a number that other processes can compare.
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

/// Return the clock's milliseconds. On this platform each process has a clock of its own.
#[cfg(not(unix))]
pub fn now_ms() -> i64 {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let since = START.get_or_init(std::time::Instant::now).elapsed();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Return the id of this boot; empty where the system has none.
///
/// Without it, times of another boot cannot be distinguished from times of this one.
pub fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        boot.trim().to_owned()
    })
}

/// Return this process's time namespace; a container can have a clock with an offset of its own.
pub fn namespace() -> &'static str {
    static NAMESPACE: OnceLock<String> = OnceLock::new();
    NAMESPACE.get_or_init(|| {
        std::fs::read_link("/proc/self/ns/time").map(|link| link.display().to_string()).unwrap_or_default()
    })
}
