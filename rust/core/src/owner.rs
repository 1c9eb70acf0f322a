//! Who holds a lease: host, process, and one opened store in it; and whether that one still lives.
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clock;

/// Stores open in this process, by the last part of their owner text.
static OPEN: Mutex<Option<HashSet<String>>> = Mutex::new(None);
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// The owner of the leases of one opened store.
#[derive(Debug)]
pub struct Owner {
    text: String,
    nonce: String,
}

impl Owner {
    /// A new owner in this process, alive until dropped.
    pub fn new() -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let nonce = format!("{nanos:x}.{:x}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let pid = std::process::id();
        let text = format!("{}|{pid}|{}|{nonce}", place(), start_time(pid).unwrap_or_default());
        OPEN.lock().expect("never poisoned").get_or_insert_default().insert(nonce.clone());
        Self { text, nonce }
    }

    /// As written into a lease.
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
        if let Some(open) = OPEN.lock().expect("never poisoned").as_mut() {
            open.remove(&self.nonce);
        }
    }
}

/// Whether the owner is known to be gone: same host, and its process, or its store in this process, no longer there.
/// False when it cannot be known: then the lease's end decides.
pub fn is_gone(owner: &str) -> bool {
    let Some(owner) = Parts::of(owner) else { return false };
    let Ok(pid) = owner.pid.parse::<u32>() else { return false };
    if (owner.host, owner.boot, owner.pids) != (host(), clock::boot(), pids()) {
        return false;
    }
    if pid == std::process::id() {
        let same = start_time(pid).unwrap_or_default() == owner.start;
        let open = OPEN.lock().expect("never poisoned");
        return !same || !open.as_ref().is_some_and(|open| open.contains(owner.nonce));
    }
    !exists(pid) || start_time(pid).is_some_and(|now| now != owner.start)
}

/// What an owner's times are to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// By the clock we have too.
    Ours,
    /// By the clock of a boot of this host that is over.
    Over,
    /// By another machine's, or one we cannot tell.
    Unknown,
}

/// By which clock an owner's times are.
pub fn clock_of(owner: &str) -> Clock {
    match Parts::of(owner) {
        Some(owner) if owner.boot.is_empty() || clock::boot().is_empty() => Clock::Unknown,
        Some(owner) if owner.boot != clock::boot() && owner.host == host() => Clock::Over,
        Some(owner) if owner.boot == clock::boot() && owner.clocks == Some(clock::namespace()) => Clock::Ours,
        _ => Clock::Unknown,
    }
}

/// What an owner's text is made of.
struct Parts<'o> {
    host: &'o str,
    boot: &'o str,
    pids: &'o str,
    /// Not said by the first version.
    clocks: Option<&'o str>,
    pid: &'o str,
    start: &'o str,
    nonce: &'o str,
}

impl<'o> Parts<'o> {
    fn of(owner: &'o str) -> Option<Self> {
        let parts: Vec<&str> = owner.rsplitn(4, '|').collect();
        let &[nonce, start, pid, place] = parts.as_slice() else { return None };
        let mut place = place.split('/');
        let (host, boot, pids) = (place.next()?, place.next()?, place.next()?);
        Some(Self { host, boot, pids, clocks: place.next(), pid, start, nonce })
    }
}

#[cfg(unix)]
fn exists(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return true };
    rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

#[cfg(not(unix))]
fn exists(_pid: u32) -> bool {
    true
}

/// The host's name, with what tells one boot, one pid namespace and one clock from another where the system says so.
fn place() -> String {
    format!("{}/{}/{}/{}", host(), clock::boot(), pids(), clock::namespace())
}

fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        #[cfg(unix)]
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        #[cfg(not(unix))]
        let name = std::env::var("COMPUTERNAME").unwrap_or_default();
        name.replace('/', "_")
    })
}

fn pids() -> &'static str {
    static PIDS: OnceLock<String> = OnceLock::new();
    PIDS.get_or_init(|| {
        std::fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default()
    })
}

/// When the process started, in the kernel's own count; a pid used again has another. A zombie has ended.
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return Some("ended".into());
    }
    fields.get(19).map(|&field| field.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner_at(host: &str, boot: &str, rest: &str) -> String {
        format!("{host}/{boot}/{rest}|1|2|3")
    }

    #[test]
    fn an_owner_says_whose_clock_its_times_are_by() {
        let (boot, rest) = (clock::boot(), format!("{}/{}", pids(), clock::namespace()));
        assert_eq!(clock_of(Owner::new().as_str()), Clock::Ours);
        assert_eq!(clock_of(&owner_at("another", boot, &rest)), Clock::Ours, "a container of this machine");
        assert_eq!(clock_of(&owner_at(host(), "another", &rest)), Clock::Over);
        assert_eq!(clock_of(&owner_at("another", "another", &rest)), Clock::Unknown);
        assert_eq!(clock_of(&owner_at(host(), "", &rest)), Clock::Unknown);
        assert_eq!(clock_of(&owner_at(host(), boot, &format!("{}/time:[1]", pids()))), Clock::Unknown);
        assert_eq!(clock_of(&owner_at(host(), boot, pids())), Clock::Unknown, "the first version's times");
        assert_eq!(clock_of("what is this"), Clock::Unknown);
    }

    #[test]
    fn the_first_versions_owners_are_looked_for_too() {
        let own = Owner::new();
        let first = own.as_str().replacen(&format!("/{}|", clock::namespace()), "|", 1);
        assert_ne!(first, own.as_str());
        assert!(!is_gone(own.as_str()) && !is_gone(&first));
        let text = own.as_str().to_owned();
        drop(own);
        assert!(is_gone(&text) && is_gone(&first));
    }
}
