//! Counts and digests of rows that arrive in pieces of any size.

use xxhash_rust::xxh3::Xxh3;

use super::{RowDigest, RowHasher};

/// Rows and their digests, summed over a stream of COPY text.
///
/// A row ends at its newline (a newline inside a value is escaped in COPY text, in every encoding that a server can have).
/// A row may arrive in pieces; it counts where it ends, and takes no memory meanwhile.
pub struct RowSums {
    hasher: RowHasher,
    open: Option<Box<Xxh3>>,
    totals: RowTotals,
}

/// What a stretch of COPY text holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowTotals {
    /// Rows that end in it.
    pub rows: u64,
    /// Sum of their digests.
    pub digest: RowDigest,
    /// Its length in bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for RowTotals {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.digest += other.digest;
        self.bytes += other.bytes;
    }
}

impl RowSums {
    /// Nothing yet.
    #[must_use]
    pub fn new(hasher: RowHasher) -> Self {
        Self { hasher, open: None, totals: RowTotals::default() }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.totals.bytes += bytes.len() as u64;
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let row = &bytes[start..=end];
            self.totals.digest += match self.open.take() {
                Some(mut open) => {
                    open.update(row);
                    RowDigest(open.digest128())
                }
                None => self.hasher.row(row),
            };
            self.totals.rows += 1;
            start = end + 1;
        }
        if start < bytes.len() {
            self.open.get_or_insert_with(|| Box::new(Xxh3::with_seed(self.hasher.seed))).update(&bytes[start..]);
        }
    }

    /// Takes what was summed since the last call. A row that is still open stays open and counts later.
    pub fn take(&mut self) -> RowTotals {
        std::mem::take(&mut self.totals)
    }

    /// Whether the bytes so far end in the middle of a row.
    #[must_use]
    pub fn inside_a_row(&self) -> bool {
        self.open.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::{RowSums, RowTotals};
    use crate::chunk::ChunkNameKey;

    #[test]
    fn pieces_do_not_matter() {
        let hasher = ChunkNameKey::random().row_hasher();
        let mut text = b"1\tone\n2\t\\N\n\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', 700));
        text.push(b'\n');
        let whole = {
            let mut sums = RowSums::new(hasher);
            sums.push(&text);
            sums.take()
        };
        assert_eq!(whole.rows, 4);
        let mut expected = crate::chunk::RowDigest::default();
        for row in text.split_inclusive(|b| *b == b'\n') {
            expected += hasher.row(row);
        }
        assert_eq!(whole.digest, expected);
        for size in [1, 2, 7, 64, 300] {
            let mut sums = RowSums::new(hasher);
            let mut total = RowTotals::default();
            for piece in text.chunks(size) {
                sums.push(piece);
                total += sums.take();
            }
            assert_eq!(total, whole, "pieces of {size}");
            assert!(!sums.inside_a_row());
            sums.push(b"half");
            assert!(sums.inside_a_row() && sums.take().rows == 0);
        }
    }
}
