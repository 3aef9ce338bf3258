//! Cuts rows into chunks.
//!
//! A source (a range of heap pages) usually fits one chunk. One whose text is large is cut where the rows themselves say so: at the
//! first row end past [`MIN`] whose digest ends in six zero bits, so that an insertion moves one border and not all that follow; at
//! the latest before [`MAX`]. A row that is longer than a chunk is sliced from its own start, so that it stays the same when its
//! neighbours change.

use super::{RowDigest, RowHasher};
use crate::{format::index_page::Part, id::SourceTag};

/// A chunk is not cut within a source before it has this many bytes.
pub const MIN: usize = 1024 * 1024;
/// No chunk's plaintext is longer.
pub const MAX: usize = 4 * 1024 * 1024;

const BORDER_MASK: u128 = 0x3f;

/// The plaintext of one chunk, and what is in it.
pub struct Cut {
    /// The text.
    pub bytes: Vec<u8>,
    /// Its parts, in order, from the first byte to the last.
    pub parts: Vec<Part>,
}

/// Takes the rows of one or more sources, and gives chunks.
pub struct Cutter {
    hasher: RowHasher,
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// The part being filled: its end is the end of `bytes`.
    open: Option<Part>,
    ready: Vec<Cut>,
}

impl Cutter {
    /// An empty cutter.
    #[must_use]
    pub fn new(hasher: RowHasher) -> Self {
        Self { hasher, bytes: Vec::new(), parts: Vec::new(), open: None, ready: Vec::new() }
    }

    /// Begins a source. The one before must have been ended.
    pub fn begin(&mut self, source: SourceTag) {
        debug_assert!(self.open.is_none(), "the source before was ended");
        self.open = Some(Part {
            source,
            position: 0,
            last: false,
            offset: self.bytes.len() as u64,
            length: 0,
            rows: 0,
            digest: RowDigest::default(),
        });
    }

    /// Takes one row of the source, its newline included.
    pub fn row(&mut self, row: &[u8]) {
        if !self.bytes.is_empty() && self.bytes.len() + row.len() > MAX {
            self.cut();
        }
        let mut rest = row;
        while rest.len() > MAX {
            self.bytes.extend_from_slice(&rest[..MAX]);
            rest = &rest[MAX..];
            self.cut();
        }
        self.bytes.extend_from_slice(rest);
        let digest = self.hasher.row(row);
        if let Some(part) = &mut self.open {
            part.rows += 1;
            part.digest += digest;
        }
        if self.bytes.len() >= MIN && digest.0 & BORDER_MASK == 0 {
            self.cut();
        }
    }

    /// Takes bytes of a source that is no rows, in pieces of any size.
    pub fn raw(&mut self, mut bytes: &[u8]) {
        while self.bytes.len() + bytes.len() > MAX {
            let (now, later) = bytes.split_at(MAX - self.bytes.len());
            self.bytes.extend_from_slice(now);
            bytes = later;
            self.cut();
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Ends the source. Its last part says so, even when it is empty.
    pub fn end(&mut self) {
        if let Some(mut part) = self.open.take() {
            part.last = true;
            part.length = self.bytes.len() as u64 - part.offset;
            self.parts.push(part);
        }
    }

    /// Chunks that are complete.
    pub fn ready(&mut self) -> impl Iterator<Item = Cut> + '_ {
        self.ready.drain(..)
    }

    /// Ends the chunk being filled, if it holds anything. Call it where chunks must not be shared further.
    pub fn flush(&mut self) {
        if self.open.is_some() || !self.parts.is_empty() {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if let Some(part) = &mut self.open {
            let mut done = *part;
            done.length = self.bytes.len() as u64 - done.offset;
            // A source that has only just begun leaves nothing in this chunk.
            if done.length > 0 {
                self.parts.push(done);
                part.position += 1;
            }
            part.offset = 0;
            part.rows = 0;
            part.digest = RowDigest::default();
        }
        if !self.parts.is_empty() {
            self.ready.push(Cut { bytes: std::mem::take(&mut self.bytes), parts: std::mem::take(&mut self.parts) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::ChunkNameKey;
    use proptest::prelude::*;

    fn cut_all(hasher: RowHasher, sources: &[Vec<Vec<u8>>]) -> Vec<Cut> {
        let mut cutter = Cutter::new(hasher);
        for (n, rows) in sources.iter().enumerate() {
            cutter.begin(SourceTag([u8::try_from(n).unwrap(); 16]));
            rows.iter().for_each(|row| cutter.row(row));
            cutter.end();
        }
        cutter.flush();
        cutter.ready().collect()
    }

    fn check(hasher: RowHasher, sources: &[Vec<Vec<u8>>], cuts: &[Cut]) {
        let mut seen: Vec<(Vec<u8>, u64, RowDigest, u32, bool)> = vec![Default::default(); sources.len()];
        for cut in cuts {
            assert!(cut.bytes.len() <= MAX);
            let mut at = 0;
            for part in &cut.parts {
                assert_eq!(part.offset, at, "parts touch");
                at += part.length;
                let seen = &mut seen[part.source.0[0] as usize];
                assert!(!seen.4, "nothing after the last part");
                assert_eq!(part.position, seen.3);
                let (from, to) = (usize::try_from(part.offset).unwrap(), usize::try_from(part.offset + part.length).unwrap());
                seen.0.extend_from_slice(&cut.bytes[from..to]);
                seen.1 += part.rows;
                seen.2 += part.digest;
                seen.3 += 1;
                seen.4 = part.last;
            }
            assert_eq!(at, cut.bytes.len() as u64, "parts cover the chunk");
        }
        for (rows, seen) in sources.iter().zip(seen) {
            let mut digest = RowDigest::default();
            rows.iter().for_each(|row| digest += hasher.row(row));
            assert_eq!((rows.concat(), rows.len() as u64, digest, true), (seen.0, seen.1, seen.2, seen.4));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn nothing_is_lost_or_moved(lengths in prop::collection::vec(prop::collection::vec(prop_oneof![
            8 => 1usize..200, 2 => 100_000usize..700_000, 1 => MAX - 2..MAX + 3, 1 => 2 * MAX - 1..2 * MAX + 2], 0..12), 0..5)) {
            let hasher = ChunkNameKey::random().row_hasher();
            let sources: Vec<Vec<Vec<u8>>> = lengths.iter().map(|rows| rows.iter().enumerate()
                .map(|(n, length)| { let mut row = vec![u8::try_from(n).unwrap(); *length]; *row.last_mut().unwrap() = b'\n'; row }).collect()).collect();
            check(hasher, &sources, &cut_all(hasher, &sources));
        }
    }

    #[test]
    fn limits_are_those_of_the_format() {
        assert_eq!((MIN, MAX), (1_048_576, 4_194_304));
    }

    fn fixed() -> RowHasher {
        serde_json::from_value::<ChunkNameKey>("07".repeat(32).into()).unwrap().row_hasher()
    }

    /// A row of `length` bytes whose digest says, or does not say, that a chunk may end after it.
    fn row(length: usize, is_border: bool) -> Vec<u8> {
        let rows = (0u32..).map(|n| {
            let letters = [1, 26, 676].map(|place| b'a' + u8::try_from(n / place % 26).unwrap());
            [&letters[..], &vec![b'x'; length - 4], b"\n"].concat()
        });
        rows.take(17_576).find(|row| fixed().row(row).0.is_multiple_of(64) == is_border).unwrap()
    }

    #[test]
    fn chunks_end_where_the_format_says() {
        let (plain, border) = (|length| row(length, false), |length| row(length, true));
        for (rows, expected) in [
            (vec![plain(3_000), plain(3_000)], vec![6_000]),
            (vec![border(3_000), border(3_000), plain(5)], vec![6_005]),
            (vec![plain(MIN), plain(5)], vec![MIN + 5]),
            (vec![plain(MIN - 10), border(10), plain(5)], vec![MIN, 5]),
            (vec![plain(MIN - 11), border(10), plain(5)], vec![MIN + 4]),
            (vec![plain(MAX - 10), plain(10)], vec![MAX]),
            (vec![plain(MAX - 10), plain(11)], vec![MAX - 10, 11]),
            (vec![plain(MAX)], vec![MAX]),
            (vec![plain(MAX + 1)], vec![MAX, 1]),
            (vec![plain(5), plain(MAX + 1), plain(5)], vec![5, MAX, 6]),
        ] {
            let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
            let cuts = cut_all(fixed(), &[rows]);
            assert_eq!(cuts.iter().map(|cut| cut.bytes.len()).collect::<Vec<_>>(), expected, "{lengths:?}");
        }
    }

    #[test]
    fn a_source_that_begins_where_a_chunk_ends_leaves_nothing_in_it() {
        let sources = [vec![row(MAX - 10, false)], vec![row(11, false)]];
        let cuts = cut_all(fixed(), &sources);
        check(fixed(), &sources, &cuts);
        assert_eq!(cuts.iter().map(|cut| cut.parts.len()).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        // A fixed key: under one in sixty or so the borders happen to meet again late.
        let hasher = fixed();
        let row = |n: u32| format!("{n}\t{}\n", "x".repeat(5_000)).into_bytes();
        let before: Vec<Vec<u8>> = (0..6_000).map(row).collect();
        let mut after = before.clone();
        after.insert(100, row(1_000_000));
        let names = |rows: &[Vec<u8>]| -> std::collections::HashSet<Vec<u8>> {
            cut_all(hasher, &[rows.to_vec()]).into_iter().map(|cut| cut.bytes).collect()
        };
        let (before, after) = (names(&before), names(&after));
        assert!(before.len() > 10);
        assert!(after.difference(&before).count() <= 3, "{} of {}", after.difference(&before).count(), after.len());
    }

    #[test]
    fn raw_bytes_are_cut_by_length() {
        let hasher = ChunkNameKey::random().row_hasher();
        let bytes: Vec<u8> = (0..MAX * 2 + 5).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut cutter = Cutter::new(hasher);
        cutter.begin(SourceTag([1; 16]));
        bytes.chunks(700_001).for_each(|piece| cutter.raw(piece));
        cutter.end();
        cutter.flush();
        let cuts: Vec<Cut> = cutter.ready().collect();
        assert_eq!(cuts.iter().map(|cut| cut.bytes.len()).collect::<Vec<_>>(), [MAX, MAX, 5]);
        assert_eq!(cuts.concat_bytes(), bytes);

        cutter.begin(SourceTag([1; 16]));
        cutter.raw(&bytes[..MAX]);
        cutter.end();
        cutter.flush();
        assert_eq!(cutter.ready().map(|cut| cut.bytes.len()).collect::<Vec<_>>(), [MAX]);
    }

    trait Concat {
        fn concat_bytes(&self) -> Vec<u8>;
    }

    impl Concat for Vec<Cut> {
        fn concat_bytes(&self) -> Vec<u8> {
            self.iter().flat_map(|cut| cut.bytes.clone()).collect()
        }
    }
}
