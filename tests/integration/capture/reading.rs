//! Rows, ranges, and what may be under a name.

use super::*;
use crate::harness::postgres::shared;

#[tokio::test]
async fn a_plain_database_gives_every_row_once() {
    let cluster = shared();
    let database = cluster.database("capture plain");
    cluster.sql(
        &database,
        "CREATE TABLE one (id int PRIMARY KEY, v text);
         INSERT INTO one VALUES (1, E'a\\tb'), (2, NULL), (3, E'line\\nbreak'), (4, '\\.');
         CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 10) AS filler FROM generate_series(1, 10000) g;
         CREATE TABLE empty (x int);
         CREATE TABLE \"no columns\" (); INSERT INTO \"no columns\" DEFAULT VALUES; INSERT INTO \"no columns\" DEFAULT VALUES;",
    );
    let snapshot = open(cluster, &database).await.unwrap();
    let described = describe(&snapshot).await;
    let read = read_all(&snapshot, &described).await;

    assert_eq!(names(&described.description), ["public.big", "public.empty", "public.no columns", "public.one"]);
    assert_eq!(read["\"public\".\"one\""], ["1\ta\\tb", "2\t\\N", "3\tline\\nbreak", "4\t\\\\."]);
    assert_eq!(read["\"public\".\"empty\""], [""; 0]);
    assert_eq!(read["\"public\".\"no columns\""], ["", ""]);

    let big = &described.description.tables[0];
    assert!(big.ranges.len() > 5, "{} ranges", big.ranges.len());
    let mut next = Some(0);
    for range in &big.ranges {
        assert_eq!(Some(range.from), next);
        next = range.to;
    }
    assert_eq!(next, None);
    let mut ids: Vec<u32> = read
        .iter()
        .filter(|(label, _)| label.starts_with("\"public\".\"big\""))
        .flat_map(|(_, rows)| rows.iter().map(|row| row.split('\t').next().unwrap().parse().unwrap()))
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=10_000).collect::<Vec<_>>());
}
