//! Frames: a length of 4 bytes, big-endian, and so many bytes (SPEC.md 2).

use std::io::{self, Read};
use std::ops::Range;

use crate::violation::{broken, Fault, Violation};

pub const DEFAULT_MAX_FRAME: usize = 64 * 1024 * 1024;
pub const MAX_FRAME_LIMIT: u64 = (1 << 31) - 1;

const READ_SIZE: usize = 64 * 1024;
const KEPT_SIZE: usize = 1024 * 1024;

/// Takes what was read, in any pieces, and gives the frames in it.
pub struct FrameDecoder {
    pub max_frame: usize,
    buffer: Vec<u8>, // used from start to end; behind that there is room
    start: usize,
    end: usize,
}

impl FrameDecoder {
    pub fn new(max_frame: usize) -> Self {
        FrameDecoder { max_frame, buffer: Vec::new(), start: 0, end: 0 }
    }

    /// Reads once; gives how many bytes came, 0 at the stream's end.
    pub fn read_from(&mut self, source: &mut impl Read) -> io::Result<usize> {
        self.make_room();
        let count = source.read(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// Where the payload of the next whole frame lies, for `payload()`; none until more is read.
    pub fn next_frame(&mut self) -> Result<Option<Range<usize>>, Violation> {
        let there = self.end - self.start;
        if there < 4 {
            return Ok(None);
        }
        let size = self.announced();
        if size == 0 {
            return broken(Fault::EmptyFrame, "a frame of length 0");
        }
        if size > self.max_frame {
            let text = format!("a frame of {size} bytes, and this worker accepts {} (max_frame)", self.max_frame);
            return broken(Fault::FrameTooLarge, text);
        }
        if there < 4 + size {
            return Ok(None);
        }
        let payload = self.start + 4;
        self.start = payload + size;
        Ok(Some(payload..self.start))
    }

    /// The bytes of a frame that was found since the last reading.
    pub fn payload(&self, frame: Range<usize>) -> &[u8] {
        &self.buffer[frame]
    }

    /// The stream ended: an error when that cut a frame in two.
    pub fn finish(&self) -> Result<(), Violation> {
        match self.end - self.start {
            0 => Ok(()),
            left => broken(Fault::TruncatedFrame, format!("the stream ended {left} bytes into a frame")),
        }
    }

    fn announced(&self) -> usize {
        let mut head = [0; 4];
        head.copy_from_slice(&self.buffer[self.start..self.start + 4]);
        u32::from_be_bytes(head) as usize
    }

    fn make_room(&mut self) {
        let there = self.end - self.start;
        if there == 0 {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > KEPT_SIZE {
                self.buffer = Vec::new();
            }
        }
        if self.buffer.len() - self.end >= READ_SIZE / 2 {
            return;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, there);
        // A length is a claim: the buffer grows with what has come, not with what was announced.
        let least = there + READ_SIZE;
        if self.buffer.len() < least {
            let whole = if there < 4 { 0 } else { 4 + self.announced() };
            self.buffer.resize((2 * there).min(whole).max(least), 0);
        }
    }
}

/// Appends a frame whose payload `write` appends; leaves `out` as it was when that fails.
pub fn append_frame<E>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    if let Err(error) = write(out) {
        out.truncate(start);
        return Err(error);
    }
    let size = out.len() - start - 4;
    out[start..start + 4].copy_from_slice(&(size as u32).to_be_bytes());
    Ok(())
}
