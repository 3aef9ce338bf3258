//! Who may do what to which object: all roles, every kind of object.

use super::{Buckets, is_allowed, powers};
use crate::harness::s3::{self, S3Server, WRITER};

const ID: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";

/// Each kind of object, with what the roles may do to it: `r`ead, `w`rite, `d`elete.
type Table = [(&'static str, [&'static str; 5])];

const ROLES: [&str; 5] = [WRITER, s3::OTHER_ROLES[0], s3::OTHER_ROLES[1], s3::OTHER_ROLES[2], s3::OTHER_ROLES[3]];
const VAULT: &Table = &[
    // writer, restorer, operator, janitor, eraser
    ("vault.json", ["r", "r", "r", "r", "r"]),
    ("signers/1", ["r", "r", "rw", "r", "r"]),
    ("t/ID/b/x.json", ["rw", "r", "r", "rd", "rd"]),
    ("t/ID/c/x/y", ["rw", "r", "r", "rd", "rd"]),
    ("t/ID/p/x/y", ["rw", "r", "r", "rd", "rd"]),
    ("t/ID/s/ID.json", ["rw", "rw", "rw", "r", "rd"]),
    ("t/ID/v/ID.json", ["r", "rw", "r", "rd", "rd"]),
    ("t/ID/copies/ID.json", ["r", "rw", "r", "r", "rd"]),
    ("t/ID/h/ID.json", ["r", "r", "rw", "r", "rd"]),
    ("t/ID/gone/ID.json", ["r", "r", "r", "r", "rw"]),
    ("erased/ID/ID.json", ["r", "r", "r", "r", "rw"]),
    ("plans/ID/plan.json", ["r", "r", "rw", "r", "rw"]),
    ("certificates/ID/a.json", ["r", "r", "r", "r", "rw"]),
    ("runs/2026/11/21/ID.json", ["rw", "rw", "rw", "rw", "rw"]),
    ("probe/ID", ["rw", "rw", "rw", "rwd", "rw"]),
];
const KEYRING: &Table = &[
    ("keyring.json", ["r", "r", "rw", "r", "r"]),
    ("t/ID/ID.json", ["rw", "r", "rw", "r", "rd"]),
    ("k/ID.1.age", ["w", "r", "rw", "", "d"]),
    ("erased/ID/ID.json", ["r", "r", "rw", "r", "rw"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_what_the_table_says_and_nothing_else() {
    for keep_versions in [false, true] {
        let buckets = Buckets::new(keep_versions).await;
        let owner = buckets.server.client();
        for (bucket, table) in [(&buckets.vault, VAULT), (&buckets.keyring, KEYRING)] {
            for (number, role) in ROLES.iter().enumerate() {
                let thief = buckets.server.client_of(role);
                for (name, expected) in table {
                    let key = name.replace("ID", ID);
                    owner.put_object().bucket(bucket).key(&key).body(b"as it was".to_vec().into()).send().await.unwrap();
                    let may = powers(&thief, bucket, &key).await;
                    assert_eq!(may, expected[number], "{role}: {bucket}/{key}, versions kept: {keep_versions}");
                }
            }
        }
    }
}

/// Where the store has no condition for create-only PUTs, versions keep what was written: nobody but janitor and eraser can remove one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_over_stays_as_an_earlier_version() {
    let buckets = Buckets::new(true).await;
    let owner = buckets.server.client();
    for (bucket, table) in [(&buckets.vault, VAULT), (&buckets.keyring, KEYRING)] {
        for (number, role) in ROLES.iter().enumerate() {
            let thief = buckets.server.client_of(role);
            for (name, may) in table {
                let key = name.replace("ID", ID);
                let body = b"as it was".to_vec();
                let first = owner.put_object().bucket(bucket).key(&key).body(body.clone().into()).send().await.unwrap();
                let first = first.version_id().unwrap();
                powers(&thief, bucket, &key).await;
                let removed = is_allowed(&key, thief.delete_object().bucket(bucket).key(&key).version_id(first).send().await);
                assert_eq!(removed, may[number].contains('d'), "{role}: {bucket}/{key}");
                if !removed {
                    let kept = owner.get_object().bucket(bucket).key(&key).version_id(first).send().await.unwrap();
                    assert_eq!(kept.body.collect().await.unwrap().to_vec(), body, "{role}: {bucket}/{key}");
                }
            }
        }
    }
}

/// Nobody's credentials change a bucket itself: its policy, its versions, its lifecycle.
#[tokio::test(flavor = "multi_thread")]
async fn no_role_changes_the_buckets_themselves() {
    use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
    let buckets = Buckets::new(true).await;
    for role in ROLES {
        let thief = buckets.server.client_of(role);
        for bucket in [&buckets.vault, &buckets.keyring] {
            let off = VersioningConfiguration::builder().status(BucketVersioningStatus::Suspended).build();
            let tried = [
                is_allowed("policy", thief.delete_bucket_policy().bucket(bucket).send().await),
                is_allowed("versions", thief.put_bucket_versioning().bucket(bucket).versioning_configuration(off).send().await),
                is_allowed("lifecycle", thief.delete_bucket_lifecycle().bucket(bucket).send().await),
                is_allowed("bucket", thief.delete_bucket().bucket(bucket).send().await),
            ];
            assert_eq!(tried, [false; 4], "{role}: policy, versions, lifecycle, bucket");
        }
    }
}
