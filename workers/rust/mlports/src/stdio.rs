//! Keeps the protocol's stream for the protocol: whatever prints, prints on standard error (SPEC.md 1.3, 1.4, 1.6).

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::OnceLock;

const TRANSPORT: &str = "MLPORTS_TRANSPORT";

/// The two descriptors that carry frames. Programs that the worker starts do not inherit them.
pub struct Channel {
    pub input: File,
    pub output: File,
}

static CHANNEL: OnceLock<Channel> = OnceLock::new();

/// The protocol's descriptors, taken away from everybody else. The first call decides; later ones agree.
pub fn channel() -> &'static Channel {
    CHANNEL.get_or_init(|| {
        let taken = match env::var(TRANSPORT).as_deref() {
            Ok("fd34") => take_3_and_4(),
            _ => take_0_and_1(),
        };
        // Programs that the worker starts are not workers.
        env::remove_var(TRANSPORT);
        env::remove_var("MLPORTS_WORKER");
        taken.unwrap_or_else(|error| {
            eprintln!("the protocol's streams cannot be taken: {error}. Start this worker with mlports.");
            std::process::exit(1);
        })
    })
}

fn take_3_and_4() -> io::Result<Channel> {
    for descriptor in [3, 4] {
        // SAFETY: only sets a flag of a descriptor, and says so if there is none.
        checked(unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    }
    // SAFETY: both are open, as just seen, and by the protocol they are ours alone.
    Ok(unsafe { Channel { input: File::from_raw_fd(3), output: File::from_raw_fd(4) } })
}

fn take_0_and_1() -> io::Result<Channel> {
    let (input, output) = (duplicate(0)?, duplicate(1)?);
    let nothing = File::open("/dev/null")?;
    // SAFETY: puts open descriptors in the places of 0 and 1, which std knows by these numbers alone.
    unsafe {
        checked(libc::dup2(nothing.as_raw_fd(), 0))?;
        checked(libc::dup2(2, 1))?;
    }
    Ok(Channel { input, output })
}

fn duplicate(descriptor: RawFd) -> io::Result<File> {
    // SAFETY: the new descriptor is nobody else's.
    unsafe { Ok(File::from_raw_fd(checked(libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 5))?)) }
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Ctrl-C reaches every process of a terminal: what it means is for the orchestrator to decide.
pub fn ignore_interrupts() {
    // SAFETY: no handler of ours is involved.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
}

/// Waits until nobody reads what is written to `output`.
pub fn wait_for_reader_gone(output: &File) {
    let mut watched = libc::pollfd { fd: output.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one pollfd, which lives through the call. Only an error is waited for.
    while unsafe { libc::poll(&mut watched, 1, -1) } <= 0 {}
}

/// Waits until a descriptor that somebody made non-blocking can be written to, or read from.
pub fn wait_ready(file: &File, to_write: bool) {
    let events = if to_write { libc::POLLOUT } else { libc::POLLIN };
    let mut watched = libc::pollfd { fd: file.as_raw_fd(), events, revents: 0 };
    // SAFETY: one pollfd, which lives through the call.
    unsafe { libc::poll(&mut watched, 1, -1) };
}
