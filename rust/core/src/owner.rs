//! The owner of a lease: a host, a process and one store opened in it; and whether that owner is still alive.
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clock;

/// The nonces of the stores open in this process; `None` before the first, because a static cannot hold an empty set.
static OPEN_STORES: Mutex<Option<HashSet<String>>> = Mutex::new(None);
static COUNTER: AtomicU64 = AtomicU64::new(0);

const UNPOISONED: &str = "no thread panics while it holds this lock";

/// The owner of the leases of one opened store.
#[derive(Debug)]
pub struct Owner {
    text: String,
    nonce: String,
}

impl Owner {
    /// Create an owner in this process. It is alive until it is dropped.
    pub fn new() -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        // The counter tells the stores of this process apart. The time tells an earlier process with the same pid apart
        // where there is no start time to compare.
        let nonce = format!("{nanos:x}.{:x}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let pid = std::process::id();
        let text = format!("{}|{pid}|{}|{nonce}", location(), start_time(pid).unwrap_or_default());
        OPEN_STORES.lock().expect(UNPOISONED).get_or_insert_default().insert(nonce.clone());
        Self { text, nonce }
    }

    /// Return the owner as it is written into a lease.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Default for Owner {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(open) = OPEN_STORES.lock().expect(UNPOISONED).as_mut() {
            open.remove(&self.nonce);
        }
    }
}

/// Return whether an owner is known to be gone.
///
/// This is only known on the owner's own host, once its process has ended or, in this process, its store is closed.
/// Otherwise this returns false, and the thread is free when the lease ends.
pub fn is_gone(owner: &str) -> bool {
    let Some(owner) = Parts::parse(owner) else { return false };
    let Ok(pid) = owner.pid.parse::<u32>() else { return false };
    // A pid means a process only on its own host, in its own boot and pid namespace.
    if (owner.host, owner.boot, owner.pid_namespace) != (host(), clock::boot_id(), pid_namespace()) {
        return false;
    }
    if pid == std::process::id() {
        let is_same_process = start_time(pid).unwrap_or_default() == owner.start;
        let open = OPEN_STORES.lock().expect(UNPOISONED);
        return !is_same_process || !open.as_ref().is_some_and(|open| open.contains(owner.nonce));
    }
    // A pid can be used again, by a process that started at another time.
    !exists(pid) || start_time(pid).is_some_and(|start| start != owner.start)
}

/// The clock of an owner's times, seen from this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The clock of this process.
    Ours,
    /// The clock of an earlier boot of this host.
    EarlierBoot,
    /// The clock of another machine, or one that cannot be identified.
    Unknown,
}

/// Return the clock of an owner's times.
pub fn clock_of(owner: &str) -> Clock {
    match Parts::parse(owner) {
        Some(owner) if owner.boot.is_empty() || clock::boot_id().is_empty() => Clock::Unknown,
        Some(owner) if owner.boot != clock::boot_id() && owner.host == host() => Clock::EarlierBoot,
        Some(owner) if owner.boot == clock::boot_id() && owner.time_namespace == Some(clock::namespace()) => {
            Clock::Ours
        }
        _ => Clock::Unknown,
    }
}

/// The fields of an owner's text.
struct Parts<'o> {
    host: &'o str,
    boot: &'o str,
    pid_namespace: &'o str,
    /// Missing in owners written by version 0.1.0.
    time_namespace: Option<&'o str>,
    pid: &'o str,
    start: &'o str,
    nonce: &'o str,
}

impl<'o> Parts<'o> {
    fn parse(owner: &'o str) -> Option<Self> {
        // Split from the right, because a host's name may contain `|`. It cannot contain `/`: `host` replaces that.
        let parts: Vec<&str> = owner.rsplitn(4, '|').collect();
        let &[nonce, start, pid, location] = parts.as_slice() else { return None };
        let mut location = location.split('/');
        let (host, boot, pid_namespace) = (location.next()?, location.next()?, location.next()?);
        Some(Self { host, boot, pid_namespace, time_namespace: location.next(), pid, start, nonce })
    }
}

#[cfg(unix)]
fn exists(pid: u32) -> bool {
    // An impossible pid says nothing about the owner, so wait for the end of the lease.
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return true };
    // Any other error means that the process is there, for example under another user.
    rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

#[cfg(not(unix))]
fn exists(_pid: u32) -> bool {
    true
}

/// Return the host's name with the ids of its boot, pid namespace and time namespace, where the system has them.
fn location() -> String {
    format!("{}/{}/{}/{}", host(), clock::boot_id(), pid_namespace(), clock::namespace())
}

fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        #[cfg(unix)]
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        #[cfg(not(unix))]
        let name = std::env::var("COMPUTERNAME").unwrap_or_default();
        // `/` separates the parts of a location.
        name.replace('/', "_")
    })
}

fn pid_namespace() -> &'static str {
    static PID_NAMESPACE: OnceLock<String> = OnceLock::new();
    PID_NAMESPACE.get_or_init(|| {
        std::fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default()
    })
}

/// Return when a process started, in the kernel's clock ticks. A zombie counts as ended.
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name may contain spaces and parentheses, so fields are counted from its last parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        // A zombie has its pid until its parent reaps it, but it writes nothing any more.
        return Some("ended".into());
    }
    // The start time is field 22 of `stat`, which is the 20th after the name.
    fields.get(19).map(|&field| field.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner_at(host: &str, boot: &str, rest: &str) -> String {
        format!("{host}/{boot}/{rest}|1|2|3")
    }

    #[test]
    fn an_owner_tells_the_clock_of_its_times() {
        let (boot, rest) = (clock::boot_id(), format!("{}/{}", pid_namespace(), clock::namespace()));
        assert_eq!(clock_of(Owner::new().as_str()), Clock::Ours);
        assert_eq!(clock_of(&owner_at("another", boot, &rest)), Clock::Ours, "a container of this machine");
        assert_eq!(clock_of(&owner_at(host(), "another", &rest)), Clock::EarlierBoot);
        assert_eq!(clock_of(&owner_at("another", "another", &rest)), Clock::Unknown);
        assert_eq!(clock_of(&owner_at(host(), "", &rest)), Clock::Unknown);
        assert_eq!(clock_of(&owner_at(host(), boot, &format!("{}/time:[1]", pid_namespace()))), Clock::Unknown);
        assert_eq!(clock_of(&owner_at(host(), boot, pid_namespace())), Clock::Unknown, "written by 0.1.0");
        assert_eq!(clock_of("what is this"), Clock::Unknown);
    }

    #[test]
    fn owners_written_by_0_1_0_are_recognized() {
        let owner = Owner::new();
        let old_text = owner.as_str().replacen(&format!("/{}|", clock::namespace()), "|", 1);
        assert_ne!(old_text, owner.as_str());
        assert!(!is_gone(owner.as_str()) && !is_gone(&old_text));
        let text = owner.as_str().to_owned();
        drop(owner);
        assert!(is_gone(&text) && is_gone(&old_text));
    }
}
