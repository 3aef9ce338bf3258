//! The policies in `docs/policies/` on real buckets: each role does its work with them, and a thief of its credentials does no more.

mod roles;
mod work;

use aws_sdk_s3::{
    Client,
    types::{Delete, ObjectIdentifier},
};

use crate::harness::s3::{self, S3Server, Seaweed};

/// Vault and keyring as buckets with the shipped policies.
struct Buckets {
    server: &'static Seaweed,
    vault: String,
    keyring: String,
}

impl Buckets {
    async fn new(keep_versions: bool) -> Self {
        let server = s3::shared();
        let buckets = Self { server, vault: server.bucket("roles-vault").await, keyring: server.bucket("roles-keyring").await };
        for (bucket, policy) in [(&buckets.vault, "vault"), (&buckets.keyring, "keyring")] {
            if keep_versions {
                s3::keep_versions(&server.client(), bucket).await;
            }
            s3::put_policy(&server.client(), bucket, policy).await;
        }
        buckets
    }
}

/// What was denied is an error; whatever else goes wrong is not what was asked.
fn is_allowed<T, E: std::fmt::Debug>(
    what: &str,
    answer: Result<T, aws_sdk_s3::error::SdkError<E, aws_sdk_s3::config::http::HttpResponse>>,
) -> bool {
    match answer {
        Ok(_) => true,
        Err(error) => {
            let status = error.raw_response().map(|response| response.status().as_u16());
            assert_eq!(status, Some(403), "{what}: {error:?}");
            false
        }
    }
}

/// All that somebody with these credentials can do to one object that is there, each tried in every way that S3 has for it.
async fn powers(client: &Client, bucket: &str, key: &str) -> String {
    let mut powers = String::new();
    let what = format!("{bucket}/{key}");
    let read = is_allowed(&what, client.get_object().bucket(bucket).key(key).send().await);
    // What cannot be read cannot be copied to where it can.
    let copied = client.copy_object().bucket(bucket).key("probe/copied").copy_source(format!("{bucket}/{key}")).send().await;
    assert!(read || !is_allowed(&what, copied), "{what} is copied");
    if read {
        powers.push('r');
    }
    if is_allowed(&what, client.put_object().bucket(bucket).key(key).body(b"forged".to_vec().into()).send().await) {
        powers.push('w');
    }
    let one = Delete::builder().objects(ObjectIdentifier::builder().key(key).build().unwrap()).build().unwrap();
    let many = client.delete_objects().bucket(bucket).delete(one).send().await;
    let many = many.is_ok_and(|answer| answer.errors().is_empty());
    let alone = is_allowed(&what, client.delete_object().bucket(bucket).key(key).send().await);
    assert_eq!(many, alone, "{what}: both ways of removing");
    if alone {
        powers.push('d');
    }
    powers
}
