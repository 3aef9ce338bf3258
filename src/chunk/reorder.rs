//! Sums of rows as they read with their columns in another order.

use super::{RowHasher, sums::RowTotals};

/// Counts and digests COPY text that arrives in pieces, each row as it would read with its columns in another order. Holds one row at
/// most.
pub struct ReorderedSums {
    hasher: RowHasher,
    /// For each column of the result, which column of the text it is.
    order: Vec<usize>,
    open: Vec<u8>,
    totals: RowTotals,
}

impl ReorderedSums {
    /// From the columns of the text to those of the result; `None` when they are not the same ones.
    #[must_use]
    pub fn new(hasher: RowHasher, from: &[String], to: &[String]) -> Option<Self> {
        let order: Option<Vec<usize>> = to.iter().map(|column| from.iter().position(|other| other == column)).collect();
        let order = order.filter(|order| order.len() == from.len())?;
        Some(Self { hasher, order, open: Vec::new(), totals: RowTotals::default() })
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !piece.ends_with(b"\n") {
                self.open.extend_from_slice(piece);
            } else if self.open.is_empty() {
                self.row(piece);
            } else {
                let mut row = std::mem::take(&mut self.open);
                row.extend_from_slice(piece);
                self.row(&row);
            }
        }
    }

    /// What all rows so far hold.
    #[must_use]
    pub fn totals(&self) -> RowTotals {
        self.totals
    }

    fn row(&mut self, row: &[u8]) {
        // A tab or a newline inside a value is escaped in COPY text, in every encoding that a server can have.
        let columns: Vec<&[u8]> = row.strip_suffix(b"\n").unwrap_or(row).split(|byte| *byte == b'\t').collect();
        let column = |at: &usize| columns.get(*at).copied().unwrap_or_default();
        let mut text = self.order.iter().map(column).collect::<Vec<_>>().join(&b'\t');
        text.push(b'\n');
        self.totals += RowTotals { rows: 1, digest: self.hasher.row(&text), bytes: row.len() as u64 };
    }
}

#[cfg(test)]
mod tests {
    use super::ReorderedSums;
    use crate::chunk::{ChunkNameKey, sums::RowSums};

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn as_if_the_columns_had_stood_in_that_order() {
        let hasher = ChunkNameKey::random().row_hasher();
        let mut expected = RowSums::new(hasher);
        expected.push(b"c1\ta1\tb1\n\\N\ta\\t2\t\n");
        let expected = expected.take();
        let text = b"a1\tb1\tc1\na\\t2\t\t\\N\n";
        for size in [1, 3, 100] {
            let mut sums = ReorderedSums::new(hasher, &names(&["a", "b", "c"]), &names(&["c", "a", "b"])).unwrap();
            text.chunks(size).for_each(|piece| sums.push(piece));
            assert_eq!(sums.totals(), expected, "pieces of {size}");
        }
        assert!(ReorderedSums::new(hasher, &names(&["a", "b"]), &names(&["a"])).is_none());
        assert!(ReorderedSums::new(hasher, &names(&["a"]), &names(&["a", "b"])).is_none());
    }
}
