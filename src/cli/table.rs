//! Tables and numbers for people.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use indicatif::BinaryBytes;

/// A table without lines, whose columns `right` are aligned to the right. One record a line, so that `grep` and `awk` work on it.
#[must_use]
pub fn table<const N: usize>(header: [&str; N], right: &[usize], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// `412.3 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    BinaryBytes(bytes).to_string()
}

/// `2026-11-21 03:00:00 UTC`.
#[must_use]
pub fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `1 backup`, `2 backups`.
#[must_use]
pub fn count(n: u64, what: &str) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped} {what}{}", if n == 1 { "" } else { "s" })
}

/// `17 done`, `2 failed`: how often each word occurs, the most frequent first.
#[must_use]
pub fn tally(words: impl IntoIterator<Item = &'static str>) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    words.into_iter().for_each(|word| *counts.entry(word).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    // The sort is stable: equal ones stay in the order of the alphabet.
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    counts.into_iter().map(|(word, n)| format!("{n} {word}")).collect()
}

/// `850 ms`, `12.3 s`, `4 min 10 s`.
#[must_use]
pub fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1_000),
    }
}

/// `12 min`, `26 h`, `3 days`: how old something is.
#[must_use]
pub fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(count(1, "row"), "1 row");
        assert_eq!(count(1_234_567, "row"), "1,234,567 rows");
        assert_eq!(count(123, "row"), "123 rows");
        assert_eq!(duration(59_950), "59.9 s");
        assert_eq!(duration(250_000), "4 min 10 s");
        assert_eq!(tally(["failed", "done", "busy", "done"]), ["2 done", "1 busy", "1 failed"]);
        assert_eq!(tally([]), [""; 0]);
    }

    #[test]
    fn a_table_is_lines_of_columns() {
        let text = table(["NAME", "SIZE"], &[1], [["a".into(), "12".into()], ["bcd".into(), "3".into()]]);
        assert_eq!(text, "NAME  SIZE\na       12\nbcd      3\n");
    }
}
