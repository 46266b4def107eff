//! Writes frames: whole, from any thread, and together what belongs together.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::frame::append_frame;
use crate::stdio::wait_ready;

const FLUSH_SIZE: usize = 64 * 1024;
const FLUSH_AFTER: Duration = Duration::from_micros(500);
const KEPT_SIZE: usize = 1024 * 1024;

pub struct Output {
    file: &'static File,
    waiting: Mutex<Waiting>,
    left_alone: Condvar,
}

struct Waiting {
    bytes: Vec<u8>,
    written: Instant, // when the last bytes were
}

impl Output {
    pub fn new(file: &'static File) -> Self {
        let waiting = Mutex::new(Waiting { bytes: Vec::new(), written: Instant::now() });
        Output { file, waiting, left_alone: Condvar::new() }
    }

    /// Appends a frame, which the caller flushes. `write` appends its payload; nothing is sent when that fails.
    pub fn queue<E>(&self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        self.append(write).map(drop)
    }

    /// Sends a frame: at once, or within half a millisecond together with what follows.
    pub fn send<E>(&self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let waiting = self.append(write)?;
        self.write_soon(waiting);
        Ok(())
    }

    /// Writes what was queued: at once, or within half a millisecond together with what follows.
    pub fn flush_soon(&self) {
        self.write_soon(self.lock());
    }

    fn write_soon(&self, mut waiting: MutexGuard<'_, Waiting>) {
        if waiting.bytes.is_empty() {
            return;
        }
        if waiting.written.elapsed() > FLUSH_AFTER {
            self.write_all(&mut waiting);
        } else {
            self.left_alone.notify_one();
        }
    }

    pub fn flush(&self) {
        self.write_all(&mut self.lock());
    }

    /// Writes what was sent and has waited long enough; never returns.
    pub fn keep_flushing(&self) {
        loop {
            let waiting = self.left_alone.wait_while(self.lock(), |waiting| waiting.bytes.is_empty());
            drop(waiting);
            thread::sleep(FLUSH_AFTER);
            self.flush();
        }
    }

    fn append<E>(&self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<MutexGuard<'_, Waiting>, E> {
        let mut waiting = self.lock();
        append_frame(&mut waiting.bytes, write)?;
        if waiting.bytes.len() >= FLUSH_SIZE {
            self.write_all(&mut waiting);
        }
        Ok(waiting)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing panics while this is held")
    }

    fn write_all(&self, waiting: &mut Waiting) {
        if waiting.bytes.is_empty() {
            return;
        }
        waiting.written = Instant::now();
        let mut file = self.file;
        let mut rest = waiting.bytes.as_slice();
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_ready(self.file, true),
                // Nobody reads any more, so nobody is there to be told either.
                Err(_) => std::process::exit(1),
            }
        }
        waiting.bytes.clear();
        if waiting.bytes.capacity() > KEPT_SIZE {
            waiting.bytes = Vec::new();
        }
    }
}
