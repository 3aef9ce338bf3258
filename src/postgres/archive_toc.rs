//! The table of contents of a `pg_dump` archive in custom format: who owns which entry, and what kind it is.
//!
//! `pg_restore --list` prints the same, but joins names by spaces, so that an owner cannot be told from a name that holds a space.
//! The layout is that of PostgreSQL's `pg_backup_archiver.c`, archive versions 1.14 (PostgreSQL 12 to 15) to 1.16 (17 and 18).

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TocEntry {
    /// Its number, as `pg_restore --use-list` knows it.
    pub dump_id: u32,
    /// `TABLE`, `INDEX`, `ACL`, …
    pub kind: String,
    /// Schema.
    pub namespace: Option<String>,
    /// Its name, as `pg_restore --list` shows it.
    pub tag: String,
    /// Role; empty where an entry has none.
    pub owner: String,
    /// Where it belongs by itself.
    pub section: Section,
    /// Whether restoring it may run functions of the tenant's at once. See [`runs_code`].
    pub runs_code: bool,
    /// Whether it is a table that inherits.
    pub inherits: bool,
    /// Whether it is an index that takes long to build for its size: anything but btree and hash.
    pub slow: bool,
    /// Entries that must come before it.
    pub needs: Vec<u32>,
}

/// Whether the statement that makes an entry before the rows, or an exclusion constraint after them, may call functions that stand in it. The server folds calls of immutable
/// functions on constants when it makes a generated column or a partition key (tried on 15); it takes the bounds of a partition, and
/// the first state of an aggregate, through the checks of their domain. Everything else is stored unevaluated.
fn runs_code(kind: &str, definition: &str) -> bool {
    match kind {
        "TABLE ATTACH" => true,
        "TABLE" | "FOREIGN TABLE" => definition.contains("GENERATED ALWAYS AS (") || definition.contains("PARTITION BY "),
        "AGGREGATE" => definition.contains("INITCOND"),
        // Columns alone need no second parenthesis; expressions and predicates do.
        "CONSTRAINT" => definition.split_once("EXCLUDE USING ").is_some_and(|(_, rest)| rest.matches('(').count() > 1),
        _ => false,
    }
}

/// Parts of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Comments, grants, labels: they follow what they belong to.
    None,
    /// Before rows.
    PreData,
    /// Rows.
    Data,
    /// After rows.
    PostData,
}

/// An archive that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TocError {
    /// Other bytes.
    #[error("the schema archive is not a pg_dump archive in custom format")]
    NotAnArchive,
    /// From a newer or much older `pg_dump`.
    #[error("the schema archive has version {0}.{1}; this tenure knows 1.14 to 1.16")]
    Version(u8, u8),
    /// Cut or changed.
    #[error("the schema archive ends, or is wrong, at byte {0}")]
    Wrong(usize),
}

/// Reads every entry, in the archive's order.
///
/// # Errors
/// [`TocError`] when the bytes are no archive of a known version.
pub fn read(archive: &[u8]) -> Result<Vec<TocEntry>, TocError> {
    Ok(read_defined(archive)?.into_iter().map(|(entry, _)| entry).collect())
}

/// As [`read`], each entry with the statements that make it.
///
/// # Errors
/// As [`read`].
pub fn read_defined(archive: &[u8]) -> Result<Vec<(TocEntry, String)>, TocError> {
    let mut input = Input { bytes: archive, at: 0, int_size: 4, offset_size: 8 };
    let (minor, count) = input.header()?;
    (0..count).map(|_| input.entry(minor)).collect()
}

/// Looks whether an archive that passes by is all there: as many entries as it says. Keeps the entry that is cut by the end of a piece, and
/// nothing else.
#[derive(Default)]
pub struct Counter {
    rest: Vec<u8>,
    /// Once the header has passed: version and sizes, and how many entries are still to come.
    header: Option<(Sizes, i64)>,
}

#[derive(Clone, Copy)]
struct Sizes {
    minor: u8,
    int: usize,
    offset: usize,
}

impl Counter {
    /// The next piece.
    ///
    /// # Errors
    /// [`TocError`] for an archive of no known version.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), TocError> {
        if matches!(self.header, Some((_, 0))) {
            return Ok(());
        }
        self.rest.extend_from_slice(piece);
        let mut at = 0;
        loop {
            let mut input = Input { bytes: &self.rest, at, int_size: 4, offset_size: 8 };
            match &mut self.header {
                Some((_, 0)) => break,
                Some((sizes, left)) => {
                    (input.int_size, input.offset_size) = (sizes.int, sizes.offset);
                    // What is cut here may go on in the next piece, or it is the end.
                    if input.entry(sizes.minor).is_err() {
                        break;
                    }
                    *left -= 1;
                }
                None => match input.header() {
                    Ok((minor, count)) => {
                        self.header = Some((Sizes { minor, int: input.int_size, offset: input.offset_size }, count));
                    }
                    Err(TocError::Wrong(_)) => break,
                    Err(error) => return Err(error),
                },
            }
            at = input.at;
        }
        self.rest.drain(..at);
        Ok(())
    }

    /// How many entries are missing at the end; `None` when not even the header was all there.
    #[must_use]
    pub fn missing(&self) -> Option<i64> {
        self.header.map(|(_, left)| left)
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    int_size: usize,
    offset_size: usize,
}

impl<'a> Input<'a> {
    /// Archive version and number of entries.
    fn header(&mut self) -> Result<(u8, i64), TocError> {
        if self.take(5)? != b"PGDMP" {
            return Err(TocError::NotAnArchive);
        }
        let (major, minor, _revision) = (self.byte()?, self.byte()?, self.byte()?);
        if major != 1 || !(14..=16).contains(&minor) {
            return Err(TocError::Version(major, minor));
        }
        self.int_size = usize::from(self.byte()?);
        self.offset_size = usize::from(self.byte()?);
        if !(1..=8).contains(&self.int_size) || !(1..=8).contains(&self.offset_size) || self.byte()? != 1 {
            return Err(TocError::NotAnArchive);
        }
        if minor >= 15 {
            self.byte()?; // compression algorithm
        } else {
            self.int()?; // compression level
        }
        for _ in 0..7 {
            self.int()?; // creation time
        }
        for _ in 0..3 {
            self.text()?; // database, server version, pg_dump version
        }
        let start = self.at;
        let count = self.int()?;
        if count < 0 { Err(TocError::Wrong(start)) } else { Ok((minor, count)) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], TocError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or(TocError::Wrong(self.at))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, TocError> {
        Ok(self.take(1)?[0])
    }

    /// A sign byte, then the magnitude, lowest byte first.
    fn int(&mut self) -> Result<i64, TocError> {
        let start = self.at;
        let negative = self.byte()? != 0;
        let mut value: i64 = 0;
        for (index, byte) in self.take(self.int_size)?.iter().enumerate() {
            value |= i64::from(*byte).checked_shl(8 * u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
        }
        if value < 0 {
            return Err(TocError::Wrong(start));
        }
        Ok(if negative { -value } else { value })
    }

    fn text(&mut self) -> Result<Option<String>, TocError> {
        let start = self.at;
        match usize::try_from(self.int()?) {
            Err(_) => Ok(None),
            // Names are in the database's encoding, which need not be UTF-8. They only show; roles are matched as bytes read the
            // same way.
            Ok(length) => {
                let bytes = self.take(length).map_err(|_| TocError::Wrong(start))?;
                Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
    }

    fn number(&mut self) -> Result<u32, TocError> {
        let start = self.at;
        u32::try_from(self.int()?).map_err(|_| TocError::Wrong(start))
    }

    fn entry(&mut self, minor: u8) -> Result<(TocEntry, String), TocError> {
        let start = self.at;
        let wrong = || TocError::Wrong(start);
        let dump_id = self.number()?;
        self.int()?; // whether rows follow
        self.text()?; // catalog
        self.text()?; // OID
        let tag = self.text()?.unwrap_or_default();
        let kind = self.text()?.ok_or_else(wrong)?;
        let section = match self.int()? {
            1 => Section::None,
            2 => Section::PreData,
            3 => Section::Data,
            4 => Section::PostData,
            _ => return Err(wrong()),
        };
        let definition = self.text()?.unwrap_or_default();
        self.text()?; // DROP
        self.text()?; // COPY
        let namespace = self.text()?.filter(|name| !name.is_empty());
        self.text()?; // tablespace
        self.text()?; // table access method
        if minor >= 16 {
            self.int()?; // kind of relation
        }
        let owner = self.text()?.unwrap_or_default();
        self.text()?; // "WITH OIDS", of old
        let mut needs = Vec::new();
        while let Some(id) = self.text()? {
            needs.push(id.parse().map_err(|_| wrong())?);
        }
        self.byte()?; // where its rows are
        self.take(self.offset_size)?;
        let runs_code = runs_code(&kind, &definition);
        let inherits = kind == "TABLE" && definition.contains("\nINHERITS (");
        let slow = match kind.as_str() {
            "INDEX" => !definition.contains(" USING btree ") && !definition.contains(" USING hash "),
            "CONSTRAINT" => definition.contains(" EXCLUDE USING "),
            _ => false,
        };
        Ok((TocEntry { dump_id, kind, namespace, tag, owner, section, runs_code, inherits, slow, needs }, definition))
    }
}

#[cfg(test)]
mod tests {
    use super::{Counter, Section, TocError, read};

    /// An archive of version 1.14 with one entry.
    fn archive() -> Vec<u8> {
        let mut out = b"PGDMP\x01\x0e\x00\x04\x08\x01".to_vec();
        let int = |out: &mut Vec<u8>, value: u32| {
            out.push(0);
            out.extend(value.to_le_bytes());
        };
        let text = |out: &mut Vec<u8>, value: Option<&str>| match value {
            None => out.extend([1, 1, 0, 0, 0]),
            Some(value) => {
                int(out, u32::try_from(value.len()).unwrap());
                out.extend(value.as_bytes());
            }
        };
        for _ in 0..8 {
            int(&mut out, 0);
        }
        for value in ["db", "15.20", "15.20"] {
            text(&mut out, Some(value));
        }
        int(&mut out, 1);
        int(&mut out, 217);
        int(&mut out, 0);
        for value in ["1259", "16403", "my table", "TABLE"] {
            text(&mut out, Some(value));
        }
        int(&mut out, 2);
        for value in [Some("CREATE"), Some("DROP"), None, Some("public"), Some(""), Some("heap"), Some("we ird"), Some("false")] {
            text(&mut out, value);
        }
        text(&mut out, Some("5"));
        text(&mut out, None);
        out.extend([0; 9]);
        out
    }

    #[test]
    fn an_owner_may_hold_a_space() {
        let entries = read(&archive()).unwrap();
        assert_eq!(entries.len(), 1);
        let entry = &entries[0];
        assert_eq!((entry.dump_id, entry.kind.as_str(), entry.owner.as_str()), (217, "TABLE", "we ird"));
        assert_eq!(
            (entry.section, entry.needs.as_slice(), entry.namespace.as_deref()),
            (Section::PreData, &[5][..], Some("public"))
        );
    }

    #[test]
    fn a_cut_archive_is_told_from_a_whole_one_whatever_the_pieces() {
        let whole = archive();
        for pieces in [1, 2, 7, whole.len()] {
            for length in 0..=whole.len() {
                let mut counter = Counter::default();
                for piece in whole[..length].chunks(pieces) {
                    counter.push(piece).unwrap();
                }
                assert_eq!(counter.missing() == Some(0), length == whole.len(), "{length} bytes in pieces of {pieces}");
            }
        }
        let mut counter = Counter::default();
        counter.push(&[&whole[..], b"what follows"].concat()).unwrap();
        counter.push(&[0; 100]).unwrap();
        assert_eq!((counter.missing(), counter.rest.len()), (Some(0), 12), "what follows is not kept");
        assert_eq!(Counter::default().push(b"-- PostgreSQL"), Err(TocError::NotAnArchive));
    }

    #[test]
    fn cut_and_foreign_archives_are_refused() {
        let whole = archive();
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length} bytes");
        }
        assert_eq!(read(b"--\n-- PostgreSQL database dump"), Err(TocError::NotAnArchive));
        let mut newer = whole;
        newer[6] = 17;
        assert_eq!(read(&newer), Err(TocError::Version(1, 17)));
    }
}
