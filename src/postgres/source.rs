//! Sources: the units that a database is read in, and how they are grouped into jobs for readers.

use std::sync::Arc;

use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::{large_objects::LargeObjectRead, quote::qualified, source_tag::Column};
use crate::id::SourceTag;

/// Heap pages of one range. Unchanged ranges give unchanged text, so tonight's chunk is already stored; smaller ranges would cost more
/// per page, larger ones would store more per change (measured: 10–20 % over a plain COPY at this size).
pub const RANGE_PAGES: u32 = 64;
/// A table has fewer ranges than this: a larger one, from 64 GiB on, is read in ranges of eight times as many pages, so that what a backup
/// says and remembers of it stays in bounds. On the night in which a table grows past that border it is stored anew, once.
const MANY_RANGES: u32 = 1 << 17;
/// A table of at most so many pages, TOAST included, shares its chunks with others.
pub const TINY_PAGES: u64 = 8;
/// A group of tiny tables ends at the latest when it has so many pages.
pub const GROUP_PAGES: u64 = 32;

/// How one table is read.
#[derive(Debug, PartialEq, Eq)]
pub struct TableRead {
    /// OID: what stands under the name must be this table, before and after.
    pub oid: u32,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Columns of the text; generated ones left out.
    pub columns: Vec<Column>,
    /// Condition of an extension's configuration table, beginning with `WHERE`.
    pub filter: Option<String>,
    /// The database's encoding, which the text keeps.
    pub encoding: String,
}

impl TableRead {
    /// `"schema"."name"`.
    #[must_use]
    pub fn qualified(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// The COPY statement of the pages `from..to`.
    ///
    /// A table read as a whole is copied by name: the server then scans the file as it is, plans nothing, and refuses anything that is
    /// not a table. Without columns there is no list to name.
    fn copy(&self, from: u32, to: Option<u32>) -> String {
        let columns = self.columns.iter().map(|column| escape_identifier(&column.name)).collect::<Vec<_>>().join(", ");
        let options = format!("TO STDOUT WITH (FORMAT text, ENCODING {})", escape_literal(&self.encoding));
        let table = self.qualified();
        if let Some(filter) = &self.filter {
            return format!("COPY (SELECT {columns} FROM ONLY {table} {filter}\n) {options}");
        }
        match (from, to) {
            (0, None) if columns.is_empty() => format!("COPY {table} {options}"),
            (0, None) => format!("COPY {table} ({columns}) {options}"),
            (from, None) => format!("COPY (SELECT {columns} FROM ONLY {table} WHERE ctid >= '({from},0)'::tid) {options}"),
            (from, Some(to)) => {
                format!(
                    "COPY (SELECT {columns} FROM ONLY {table} WHERE ctid >= '({from},0)'::tid AND ctid < '({to},0)'::tid) {options}"
                )
            }
        }
    }
}

/// What a source is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The pages `from..to` of a table.
    Rows {
        /// The table.
        table: Arc<TableRead>,
        /// First page.
        from: u32,
        /// First page that is not in it; `None` is the open end.
        to: Option<u32>,
    },
    /// A block of large objects.
    LargeObjects(LargeObjectRead),
}

/// One unit of reading: the rows that one source tag stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its tag.
    pub tag: SourceTag,
    /// What to read.
    pub read: Read,
    /// Bytes on the server's disk, TOAST included, for progress and order. Not the length of the text.
    pub disk_bytes: u64,
}

impl Source {
    /// The COPY statement that reads it.
    #[must_use]
    pub fn statement(&self) -> String {
        match &self.read {
            Read::Rows { table, from, to } => table.copy(*from, *to),
            Read::LargeObjects(read) => read.copy(),
        }
    }

    /// Whether the server plans that statement, and may so call functions of the tenant's: see [`super::planned_code`].
    #[must_use]
    pub fn is_planned(&self) -> bool {
        match &self.read {
            Read::Rows { table, from, to } => table.filter.is_some() || (*from, *to) != (0, None),
            Read::LargeObjects(_) => false,
        }
    }

    /// What it is, for messages: `"public"."orders" pages 64..128`.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.read {
            Read::Rows { table, from: 0, to: None } => table.qualified(),
            Read::Rows { table, from, to: None } => format!("{} pages {from}..", table.qualified()),
            Read::Rows { table, from, to: Some(to) } => format!("{} pages {from}..{to}", table.qualified()),
            Read::LargeObjects(read) => format!("large objects {}..{}", read.first_oid, read.end_oid()),
        }
    }
}

/// Work for one reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// A source that has chunks of its own.
    Single(Source),
    /// Sources of tiny tables, in order, that share chunks.
    Shared(Vec<Source>),
}

impl Job {
    /// Its sources, in order.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        match self {
            Self::Single(source) => std::slice::from_ref(source),
            Self::Shared(sources) => sources,
        }
    }

    /// Bytes on the server's disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.sources().iter().map(|source| source.disk_bytes).sum()
    }
}

/// The borders of a table's ranges: `(from, to)`, from page 0 to an open end. `pages` is the length of the heap when the snapshot was
/// open; what was appended since is in the last range, and invisible.
pub fn ranges(pages: u32) -> impl Iterator<Item = (u32, Option<u32>)> {
    let mut size = RANGE_PAGES;
    while pages / size >= MANY_RANGES {
        size *= 8;
    }
    let last = pages.saturating_sub(1) / size;
    (0..=last).map(move |k| (k * size, (k < last).then(|| (k + 1) * size)))
}

/// Groups the sources of tiny tables, given in order of table OID with their pages.
///
/// A group ends where a tag's last four bits are zero, so that a table more or less moves the borders of its neighbourhood only.
#[must_use]
pub fn group(tiny: Vec<(Source, u64)>) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut open = Vec::new();
    let mut open_pages = 0;
    for (source, pages) in tiny {
        let ends_here = source.tag.0[15] & 0x0f == 0;
        open.push(source);
        open_pages += pages;
        if ends_here || open_pages >= GROUP_PAGES {
            jobs.push(Job::Shared(std::mem::take(&mut open)));
            open_pages = 0;
        }
    }
    if !open.is_empty() {
        jobs.push(Job::Shared(open));
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[&str], filter: Option<&str>) -> Arc<TableRead> {
        Arc::new(TableRead {
            oid: 1,
            schema: "s.1".to_owned(),
            name: "t\"x".to_owned(),
            columns: columns.iter().map(|c| Column { name: (*c).to_owned(), type_oid: 23, type_modifier: -1 }).collect(),
            filter: filter.map(str::to_owned),
            encoding: "LATIN1".to_owned(),
        })
    }

    fn source(last: u8) -> Source {
        let mut tag = SourceTag([0; 16]);
        tag.0[15] = last;
        Source { tag, read: Read::Rows { table: table(&[], None), from: 0, to: None }, disk_bytes: 0 }
    }

    #[test]
    fn statements() {
        let of = |columns: &[&str], filter, from, to| table(columns, filter).copy(from, to);
        let options = "TO STDOUT WITH (FORMAT text, ENCODING 'LATIN1')";
        let name = "\"s.1\".\"t\"\"x\"";
        assert_eq!(of(&["a", "b"], None, 0, None), format!("COPY {name} (\"a\", \"b\") {options}"));
        assert_eq!(of(&[], None, 0, None), format!("COPY {name} {options}"));
        assert_eq!(
            of(&[], None, 64, Some(128)),
            format!("COPY (SELECT  FROM ONLY {name} WHERE ctid >= '(64,0)'::tid AND ctid < '(128,0)'::tid) {options}")
        );
        assert_eq!(
            of(&["a"], None, 64, None),
            format!("COPY (SELECT \"a\" FROM ONLY {name} WHERE ctid >= '(64,0)'::tid) {options}")
        );
        assert_eq!(
            of(&["a"], Some("WHERE a > 1 -- mine"), 0, None),
            format!("COPY (SELECT \"a\" FROM ONLY {name} WHERE a > 1 -- mine\n) {options}")
        );
    }

    #[test]
    fn ranges_are_contiguous_from_zero_to_an_open_end() {
        for pages in [0, 1, 63, 64, 65, 128, 129, 1000, u32::MAX - 1, u32::MAX] {
            if pages > 100_000 {
                let (from, to) = ranges(pages).last().unwrap();
                assert!(from < pages && to.is_none());
                continue;
            }
            let mut next = Some(0);
            for (from, to) in ranges(pages) {
                assert_eq!(Some(from), next);
                assert_eq!(from % RANGE_PAGES, 0);
                next = to;
            }
            assert_eq!(next, None, "open end at {pages} pages");
        }
        for pages in [1 << 22, (1 << 23) - 1, 1 << 23, 1 << 27, u32::MAX] {
            assert!(ranges(pages).count() <= MANY_RANGES as usize, "{pages}");
        }
        assert_eq!((ranges((1 << 23) - 1).nth(1), ranges(1 << 23).nth(1)), (Some((64, Some(128))), Some((512, Some(1024)))));
        assert_eq!(ranges(64).collect::<Vec<_>>(), [(0, None)]);
        assert_eq!(ranges(65).collect::<Vec<_>>(), [(0, Some(64)), (64, None)]);
    }

    #[test]
    fn groups_end_at_tags_and_at_their_size() {
        let sizes = |tiny: Vec<(Source, u64)>| group(tiny).iter().map(|job| job.sources().len()).collect::<Vec<_>>();
        assert_eq!(sizes(vec![]), [0; 0]);
        assert_eq!(sizes(vec![(source(1), 1), (source(0x10), 1), (source(2), 1)]), [2, 1]);
        assert_eq!(sizes((0..9).map(|_| (source(1), 8)).collect()), [4, 4, 1]);
    }
}
