//! A name in the kernel that exists as long as its process, also for processes that cannot see each other's pids.
//!
//! It is the name of a socket, which all containers in one network namespace see. The kernel frees it when the process
//! ends, however that ends.
use std::sync::OnceLock;

/// A name that is taken until this is dropped.
#[derive(Debug)]
pub struct Beacon {
    #[cfg(target_os = "linux")]
    _socket: std::os::unix::net::UnixDatagram,
}

#[cfg(target_os = "linux")]
fn address(nonce: &str) -> std::io::Result<std::os::unix::net::SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    std::os::unix::net::SocketAddr::from_abstract_name(format!("agentrunner/{nonce}"))
}

impl Beacon {
    /// Take the name of an owner; `None` where the system has no such names.
    #[cfg(target_os = "linux")]
    pub fn light(nonce: &str) -> Option<Self> {
        let socket = std::os::unix::net::UnixDatagram::bind_addr(&address(nonce).ok()?).ok()?;
        Some(Self { _socket: socket })
    }

    /// Take the name of an owner; `None` where the system has no such names.
    #[cfg(not(target_os = "linux"))]
    pub fn light(_nonce: &str) -> Option<Self> {
        None
    }
}

/// Return whether no process of this network namespace has the name of an owner.
#[cfg(target_os = "linux")]
pub fn is_out(nonce: &str) -> bool {
    use std::io::ErrorKind::ConnectionRefused;
    let probe = || std::os::unix::net::UnixDatagram::unbound()?.connect_addr(&address(nonce)?);
    // Any other error, such as a missing permission, says nothing about the owner.
    probe().is_err_and(|error| error.kind() == ConnectionRefused)
}

/// Return whether no process of this network namespace has the name of an owner.
#[cfg(not(target_os = "linux"))]
pub fn is_out(_nonce: &str) -> bool {
    false
}

/// Return this process's network namespace; empty where the system has none.
pub fn namespace() -> &'static str {
    static NAMESPACE: OnceLock<String> = OnceLock::new();
    NAMESPACE.get_or_init(|| {
        std::fs::read_link("/proc/self/ns/net").map(|link| link.display().to_string()).unwrap_or_default()
    })
}
