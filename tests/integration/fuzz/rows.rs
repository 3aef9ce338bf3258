//! COPY text in pieces of any size, and archives of pg_dump.

use proptest::prelude::*;
use tenure::{
    chunk::{
        ChunkNameKey,
        cutter::{Cutter, MAX},
        reorder::ReorderedSums,
        sums::{RowSums, RowTotals},
    },
    id::SourceTag,
    postgres::{archive_toc, tools::ToolVersion},
};

use super::{
    golden_plaintexts,
    mutate::{each, each_text, run},
};

#[test]
fn copy_framing() {
    let hasher = serde_json::from_value::<ChunkNameKey>("07".repeat(32).into()).unwrap().row_hasher();
    // Bytes that matter to COPY are frequent.
    let byte = prop_oneof![2 => Just(b'\n'), 2 => Just(b'\t'), 1 => Just(b'\\'), 4 => any::<u8>()];
    let text = (prop::collection::vec(byte, 0..120), prop::collection::vec(any::<prop::sample::Index>(), 0..8));
    run("rows::copy_framing", 500, &text, |(text, cuts)| {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
        let columns = ["a".to_owned(), "b".to_owned()];
        let (mut whole, mut apart) = (RowSums::new(hasher), RowSums::new(hasher));
        let mut reordered = ReorderedSums::new(hasher, &columns, &columns[..]).unwrap();
        whole.push(text);
        let mut summed = RowTotals::default();
        for piece in &pieces {
            apart.push(piece);
            summed += apart.take();
            reordered.push(piece);
        }
        let whole = (whole.take(), whole.inside_a_row());
        assert_eq!((summed, apart.inside_a_row()), whole);
        assert_eq!(reordered.totals().rows, whole.0.rows);

        let mut cutter = Cutter::new(hasher);
        cutter.begin(SourceTag([1; 16]));
        let rows: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').filter(|row| row.ends_with(b"\n")).collect();
        rows.iter().for_each(|row| cutter.row(row));
        cutter.end();
        cutter.begin(SourceTag([2; 16]));
        pieces.iter().for_each(|piece| cutter.raw(piece));
        cutter.end();
        cutter.flush();
        let cuts: Vec<_> = cutter.ready().collect();
        let stored: Vec<u8> = cuts.iter().flat_map(|cut| cut.bytes.clone()).collect();
        assert_eq!(stored, [rows.concat(), text.clone()].concat());
        assert!(cuts.iter().all(|cut| cut.bytes.len() <= MAX && cut.parts.iter().all(|part| part.rows <= part.length)));
        let parts = cuts.iter().flat_map(|cut| &cut.parts).filter(|part| part.source == SourceTag([1; 16]));
        let (rows, digest) = parts.fold((0, 0), |sum, part| (sum.0 + part.rows, part.digest.0.wrapping_add(sum.1)));
        assert_eq!((rows, digest), (whole.0.rows, whole.0.digest.0));
    });
}

#[test]
fn archives_of_pg_dump() {
    each("rows::archives_of_pg_dump", 2_000, &golden_plaintexts(b"PGDMP"), |bytes| {
        let entries = archive_toc::read(bytes);
        if let Ok(entries) = &entries {
            let held: usize = entries.iter().map(|entry| entry.tag.len() + entry.owner.len() + 4 * entry.needs.len()).sum();
            assert!(held <= 4 * bytes.len(), "never more than the archive holds");
        }
        entries.is_ok()
    });
}

#[test]
fn versions_of_programs() {
    let corpus =
        ["pg_dump (PostgreSQL) 15.20", "pg_restore (PostgreSQL) 18.7 (Debian 18.7-1.pgdg120+1)", "pg_dump (PostgreSQL) 19beta1"];
    each_text("rows::versions_of_programs", 3_000, &corpus, |text| {
        let version = ToolVersion::parse(text);
        let _ = version.map(ToolVersion::known_holes);
        version.is_some()
    });
}
