//! What a salvaged database lacks, as the report tells it.

use serde::Serialize;

/// What a salvaged database lacks. It is empty where nothing is: then the restore is proven like any other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Salvage {
    /// What is damaged, in order of its name.
    pub damaged: Vec<DamagedObject>,
    /// Page ranges that are not there as they were, by table and page.
    pub absent: Vec<AbsentRange>,
    /// Large objects that are not there.
    pub absent_large_objects: Vec<AbsentLargeObjects>,
    /// Foreign keys that do not hold without the absent rows, and materialized views that could not be filled.
    pub weakened: Vec<Weakened>,
    /// Tables that are whole: the number of them.
    pub whole_tables: u64,
}

/// A stored object that is missing or damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct DamagedObject {
    /// Its address and name.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Consecutive page ranges of one table that are not there as they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct AbsentRange {
    /// `schema.name`.
    pub table: String,
    /// First page.
    pub from_page: u32,
    /// First page that is not in it; null is the open end.
    pub to_page: Option<u32>,
    /// Rows of it that are there.
    pub rows_restored: u64,
    /// Rows of it that are not; null when the index that tells is itself lost.
    pub rows_lost: Option<u64>,
    /// Which damaged objects it needs. Where a page of the index is lost it can be any of those.
    pub needs: Vec<String>,
}

/// A block of large objects that is left out as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct AbsentLargeObjects {
    /// How many.
    pub count: u32,
    /// Their OIDs, as first and last of each run.
    pub oids: Vec<(u32, u32)>,
    /// Which damaged objects they need.
    pub needs: Vec<String>,
}

/// Something that needs rows that are absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Weakened {
    /// `foreign key` or `materialized view`.
    pub kind: String,
    /// `schema.table constraint`, or `schema.view`.
    pub object: String,
    /// `not-valid`: it is there and holds for new rows. `left-out`: it is not there. `not-filled`: it is there and empty.
    pub state: String,
}

impl Salvage {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.absent.is_empty() && self.absent_large_objects.is_empty() && self.weakened.is_empty()
    }
}

impl AbsentRange {
    /// Whether the next range goes on where this one ends, and both are gone as a whole.
    pub(super) fn continues_as(&self, next: &Self) -> bool {
        self.to_page == Some(next.from_page)
            && (self.rows_restored, next.rows_restored) == (0, 0)
            && self.rows_lost.is_some() == next.rows_lost.is_some()
    }
}
