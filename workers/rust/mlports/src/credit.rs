//! How much of a streamed argument is let come, before its handler has taken what came.

const MOST: u64 = 32; // items
const MOST_BYTES: u64 = 8 * 1024 * 1024;
const FIRST: u64 = 2; // items, before any size is known

/// What may still come of one stream, and what came and waits: at most 32 items, and no more than seem to fit into
/// 8 MiB, judged by the largest lately; where a single one is larger, one at a time.
#[derive(Default)]
pub struct Window {
    coming: u64,
    waiting: u64,
    waiting_bytes: u64,
    size: u64, // bytes that the next item is expected to have; 0: not known
}

impl Window {
    pub fn arrived(&mut self, size: usize) {
        let size = size as u64;
        self.coming = self.coming.saturating_sub(1);
        self.waiting += 1;
        self.waiting_bytes += size;
        self.size = size.max(self.size - self.size / 8).max(1);
    }

    pub fn taken(&mut self, size: usize) {
        self.waiting -= 1;
        self.waiting_bytes -= size as u64;
    }

    /// How many more may come, 0 for none yet: it is given in large parts. Counts them as given.
    pub fn grant(&mut self) -> u64 {
        let ahead = self.coming + self.waiting;
        if ahead > MOST / 2 {
            return 0;
        }
        let more = match self.size {
            0 => FIRST.saturating_sub(ahead),
            size => self.grant_of(size, ahead),
        };
        self.coming += more;
        more
    }

    fn grant_of(&self, size: u64, ahead: u64) -> u64 {
        let room = MOST_BYTES.saturating_sub(self.waiting_bytes + self.coming * size);
        let more = (MOST - ahead).min(room / size);
        if more == 0 && self.coming == 0 && self.waiting_bytes < MOST_BYTES {
            1
        } else if more < ahead {
            0
        } else {
            more
        }
    }
}
