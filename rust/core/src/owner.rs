//! Who holds a lease: host, process, and one opened store in it; and whether that one still lives.
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

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
        let text = format!("{}|{pid}|{}|{nonce}", host(), start_time(pid).unwrap_or_default());
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
    let parts: Vec<&str> = owner.rsplitn(4, '|').collect();
    let &[nonce, start, pid, owner_host] = parts.as_slice() else { return false };
    let Ok(pid) = pid.parse::<u32>() else { return false };
    if owner_host != host() {
        return false;
    }
    if pid == std::process::id() {
        let same = start_time(pid).unwrap_or_default() == start;
        let open = OPEN.lock().expect("never poisoned");
        return !same || !open.as_ref().is_some_and(|open| open.contains(nonce));
    }
    !exists(pid) || start_time(pid).is_some_and(|now| now != start)
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

/// The host name, with what tells one boot and one pid namespace from another where the system says so.
fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(read_host)
}

fn read_host() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string());
    format!("{name}/{}/{}", boot.trim(), namespace.unwrap_or_default())
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
