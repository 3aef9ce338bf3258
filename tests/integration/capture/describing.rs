//! The description.

use super::*;
use crate::harness::postgres::shared;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_database_gives_the_same_bytes() {
    let cluster = shared();
    let database = cluster.database("capture twice");
    cluster.sql(&database, "CREATE TABLE b (id serial, v text); CREATE TABLE a (id int); SELECT nextval('b_id_seq');");
    let mut bytes = Vec::new();
    for _ in 0..2 {
        let snapshot = open(cluster, &database).await.unwrap();
        bytes.push(serde_json::to_string_pretty(&describe(&snapshot).await.description).unwrap());
    }
    assert_eq!(bytes[0], bytes[1]);
    let description: Description = serde_json::from_str(&bytes[0]).unwrap();
    assert_eq!(description.database.name, database);
    assert_eq!(description.sequences.len(), 1);
    assert!(description.sequences[0].is_called);
}
