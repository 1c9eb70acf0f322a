//! The owner of a lease: a host, a process and one store opened in it; and whether that owner is still alive.
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::beacon::{self, Beacon};
use crate::clock;

/// The fencing tokens that each store open in this process holds, by the store's nonce.
type OpenStores = HashMap<String, HashSet<i64>>;

/// `None` before the first store, because a static cannot hold an empty map.
static OPEN_STORES: Mutex<Option<OpenStores>> = Mutex::new(None);
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// The owner of the leases of one opened store.
#[derive(Debug)]
pub struct Owner {
    text: String,
    nonce: String,
    _beacon: Option<Beacon>,
}

impl Owner {
    /// Create an owner in this process. It is alive until it is dropped.
    pub fn new() -> Self {
        Self::with_mark(&new_nonce(), "")
    }

    /// Create an owner with this nonce. The mark tells what else, besides its process, shows that it is alive.
    pub fn with_mark(nonce: &str, mark: &str) -> Self {
        let pid = std::process::id();
        let beacon = Beacon::light(nonce);
        let network = if beacon.is_some() { beacon::namespace() } else { "" };
        let start = read_stat(pid).map(|stat| stat.start).unwrap_or_default();
        let text = format!("{}/{network}/{mark}|{pid}|{start}|{nonce}", location());
        open_stores().get_or_insert_default().insert(nonce.into(), HashSet::new());
        Self { text, nonce: nonce.into(), _beacon: beacon }
    }

    /// Return the owner as it is written into a lease.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Note that this owner uses the lease with this token, so that no store of this process takes it over.
    pub fn hold(&self, token: i64) {
        if let Some(tokens) = open_stores().as_mut().and_then(|stores| stores.get_mut(&self.nonce)) {
            tokens.insert(token);
        }
    }

    /// Note that this owner no longer uses the lease with this token.
    pub fn release(&self, token: i64) {
        if let Some(tokens) = open_stores().as_mut().and_then(|stores| stores.get_mut(&self.nonce)) {
            tokens.remove(&token);
        }
    }
}

impl Default for Owner {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(stores) = open_stores().as_mut() {
            stores.remove(&self.nonce);
        }
    }
}

fn open_stores() -> MutexGuard<'static, Option<OpenStores>> {
    OPEN_STORES.lock().expect("no thread panics while it holds this lock")
}

/// Return a name for one opened store that no other store has.
pub fn new_nonce() -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    // The counter tells the stores of this process apart. The time tells an earlier process with the same pid apart
    // where there is no start time to compare.
    format!("{nanos:x}.{:x}", COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// What this process can tell about an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// Its process has ended, or its store was closed.
    Gone,
    /// It is a store that is open in this process.
    Here,
    /// Its process runs on this machine.
    Running,
    /// Only its lease can tell: its process is stopped, or cannot be seen from here.
    Unknown,
}

/// Return what is known about an owner.
pub fn liveness(owner: &str) -> Liveness {
    let Some(owner) = Parts::parse(owner) else { return Liveness::Unknown };
    let Ok(pid) = owner.pid.parse::<u32>() else { return Liveness::Unknown };
    if !owner.is_same_kernel() {
        return Liveness::Unknown;
    }
    // A pid means a process only in its own pid namespace.
    if owner.pid_namespace != pid_namespace() {
        let is_out = owner.network_namespace == Some(beacon::namespace()) && beacon::is_out(owner.nonce);
        return if is_out { Liveness::Gone } else { Liveness::Unknown };
    }
    let stat = read_stat(pid);
    if pid == std::process::id() {
        let is_same_process = stat.map(|stat| stat.start).unwrap_or_default() == owner.start;
        let is_open = open_stores().as_ref().is_some_and(|stores| stores.contains_key(owner.nonce));
        return if is_same_process && is_open { Liveness::Here } else { Liveness::Gone };
    }
    match stat {
        // A zombie has its pid until its parent reaps it, but it writes nothing any more.
        Some(stat) if matches!(stat.state, 'Z' | 'X') => Liveness::Gone,
        // A pid can be used again, by a process that started at another time.
        Some(stat) if stat.start != owner.start => Liveness::Gone,
        Some(stat) if matches!(stat.state, 'T' | 't') => Liveness::Unknown,
        Some(_) => Liveness::Running,
        None if exists(pid) => Liveness::Unknown,
        None => Liveness::Gone,
    }
}

/// Return whether an owner is known to be gone. Otherwise the thread is free when the lease ends.
pub fn is_gone(owner: &str) -> bool {
    liveness(owner) == Liveness::Gone
}

/// Return the tokens that an owner of this process holds.
pub fn held_tokens(owner: &str) -> Vec<i64> {
    let stores = open_stores();
    let tokens = Parts::parse(owner).zip(stores.as_ref()).and_then(|(owner, stores)| stores.get(owner.nonce));
    tokens.map(|tokens| tokens.iter().copied().collect()).unwrap_or_default()
}

/// Return whether an owner of this process holds a token.
pub fn is_held(owner: &str, token: i64) -> bool {
    let stores = open_stores();
    let tokens = Parts::parse(owner).zip(stores.as_ref()).and_then(|(owner, stores)| stores.get(owner.nonce));
    tokens.is_some_and(|tokens| tokens.contains(&token))
}

/// Return the nonce and the mark of an owner that runs, or ran, under this kernel.
pub fn mark_of(owner: &str) -> Option<(&str, &str)> {
    let owner = Parts::parse(owner).filter(Parts::is_same_kernel)?;
    Some((owner.nonce, owner.mark?))
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
    /// Missing in owners written by version 0.1.0, like the next two.
    time_namespace: Option<&'o str>,
    network_namespace: Option<&'o str>,
    mark: Option<&'o str>,
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
        Some(Self {
            host: location.next()?,
            boot: location.next()?,
            pid_namespace: location.next()?,
            time_namespace: location.next(),
            network_namespace: location.next().filter(|namespace| !namespace.is_empty()),
            mark: location.next().filter(|mark| !mark.is_empty()),
            pid,
            start,
            nonce,
        })
    }

    /// Return whether the owner belongs to this boot of this machine.
    ///
    /// Where there is no boot id, the host's name has to do. Elsewhere it means nothing: containers may share it.
    fn is_same_kernel(&self) -> bool {
        self.boot == clock::boot_id() && (!self.boot.is_empty() || self.host == host())
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

/// A process as the kernel reports it.
struct Stat {
    state: char,
    /// When it started, in the kernel's clock ticks.
    start: String,
}

fn read_stat(pid: u32) -> Option<Stat> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name may contain spaces and parentheses, so fields are counted from its last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // The start time is field 22 of `stat`, and the state is field 3.
    Some(Stat { state, start: fields.nth(18)?.to_owned() })
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
        let (place, rest) = owner.as_str().split_once('|').unwrap();
        let old_text = format!("{}|{rest}", place.splitn(4, '/').take(3).collect::<Vec<_>>().join("/"));
        assert_eq!((liveness(owner.as_str()), liveness(&old_text)), (Liveness::Here, Liveness::Here));
        let text = owner.as_str().to_owned();
        drop(owner);
        assert!(is_gone(&text) && is_gone(&old_text));
    }

    // fault A6
    #[test]
    fn an_owner_of_this_process_holds_only_its_own_tokens() {
        let (owner, other) = (Owner::new(), Owner::new());
        owner.hold(7);
        assert!(is_held(owner.as_str(), 7) && !is_held(owner.as_str(), 8) && !is_held(other.as_str(), 7));
        assert_eq!(held_tokens(owner.as_str()), [7]);
        owner.release(7);
        assert!(!is_held(owner.as_str(), 7) && held_tokens("what is this").is_empty());
    }

    // fault D9
    #[cfg(target_os = "linux")]
    #[test]
    fn an_owner_in_another_pid_namespace_is_gone_when_its_beacon_is_out() {
        let owner = Owner::new();
        let elsewhere = owner.as_str().replacen("/pid:[", "/pid:[1", 1);
        assert_eq!(liveness(&elsewhere), Liveness::Unknown, "it is alive");
        let unreachable = elsewhere.replacen("/net:[", "/net:[1", 1);
        drop(owner);
        assert_eq!(liveness(&elsewhere), Liveness::Gone);
        assert_eq!(liveness(&unreachable), Liveness::Unknown, "its network cannot be seen from here");
    }
}
