//! What a bucket says of itself.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{
    BucketVersioningStatus, DefaultRetention, ExpirationStatus, LifecycleRule, LifecycleRuleFilter, ObjectLockConfiguration,
    ObjectLockEnabled,
};
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::date_time::{DateTime, Format};

use super::{S3Store, answer};
use crate::store::retry::Failure;
use crate::store::{Store as _, StoreError, StoreErrorKind, StoreFacts, Versioning};

pub(super) async fn facts(store: &S3Store) -> Result<StoreFacts, StoreError> {
    // The first call also finds out whether there is such a bucket, which the others answer less clearly.
    let clock_ahead_seconds = store.clock_ahead_seconds().await?;
    let object_lock = object_lock(store).await?;
    Ok(StoreFacts {
        versioning: store.attempt("read versioning of", "", |_| versioning(store)).await?,
        object_lock: object_lock.as_ref().map(Option::is_some),
        default_retention: object_lock.flatten().as_ref().and_then(default_retention),
        expiring_rules: store.attempt("read lifecycle of", "", |_| expiring_rules(store)).await?,
        create_only: match store.decides_create_only().await {
            Ok(decides) => Some(decides),
            Err(StoreError { kind: StoreErrorKind::Denied, .. }) => None,
            Err(error) => return Err(error),
        },
        clock_ahead_seconds,
    })
}

async fn versioning(store: &S3Store) -> Result<Option<Versioning>, Failure> {
    let call = store.client.get_bucket_versioning().bucket(&store.bucket).send();
    let said = ask(store, call, "").await?;
    Ok(said.flatten().map(|said| match said.status {
        Some(BucketVersioningStatus::Enabled) => Versioning::On,
        Some(BucketVersioningStatus::Suspended) => Versioning::Suspended,
        _ => Versioning::Off,
    }))
}

/// `None` where the server would not tell, `Some(None)` where object lock is not on.
pub(super) async fn object_lock(store: &S3Store) -> Result<Option<Option<ObjectLockConfiguration>>, StoreError> {
    let asked = store.attempt("read object lock of", "", |_| {
        let call = store.client.get_object_lock_configuration().bucket(&store.bucket).send();
        ask(store, call, "ObjectLockConfigurationNotFoundError")
    });
    Ok(asked.await?.map(|said| {
        let configuration = said.and_then(|said| said.object_lock_configuration);
        configuration.filter(|lock| lock.object_lock_enabled == Some(ObjectLockEnabled::Enabled))
    }))
}

/// In words.
fn default_retention(lock: &ObjectLockConfiguration) -> Option<String> {
    let DefaultRetention { mode, days, years, .. } = lock.rule()?.default_retention()?;
    let mode = mode.as_ref()?.as_str().to_lowercase();
    let (count, unit) = days.map(|days| (days, "day")).or(years.map(|years| (years, "year")))?;
    Some(format!("{mode} {count} {unit}{}", if count == 1 { "" } else { "s" }))
}

async fn expiring_rules(store: &S3Store) -> Result<Option<Vec<String>>, Failure> {
    let call = store.client.get_bucket_lifecycle_configuration().bucket(&store.bucket).send();
    let said = ask(store, call, "NoSuchLifecycleConfiguration").await?;
    Ok(said.map(|said| {
        let rules = said.as_ref().map_or(&[][..], |said| said.rules());
        rules.iter().filter_map(|rule| expires(rule, &store.prefix)).collect()
    }))
}

/// `Some(Some(_))` is an answer, `Some(None)` the answer `nothing_set`; `None` means that the server would not tell, or cannot.
async fn ask<T, E>(
    store: &S3Store,
    call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    nothing_set: &str,
) -> Result<Option<Option<T>>, Failure>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let error = match store.in_time(0, call).await? {
        Ok(said) => return Ok(Some(Some(said))),
        Err(error) => error,
    };
    if !nothing_set.is_empty() && answer::status_and_code(&error).1 == nothing_set {
        return Ok(Some(None));
    }
    let failure = answer::failure(error, &store.credentials);
    match failure.kind {
        StoreErrorKind::Denied | StoreErrorKind::Refused => Ok(None),
        _ => Err(failure),
    }
}

/// One line about a rule that will remove current objects below `prefix`.
fn expires(rule: &LifecycleRule, prefix: &str) -> Option<String> {
    let expiration = rule.expiration().filter(|_| *rule.status() == ExpirationStatus::Enabled)?;
    let when = match (expiration.days(), expiration.date()) {
        (Some(days), _) => format!("{days} days after their creation"),
        (None, Some(date)) => format!("on {date}"),
        // It removes delete markers only.
        (None, None) => return None,
    };
    let below = rule_prefix(rule);
    if !below.starts_with(prefix) && !prefix.starts_with(below) {
        return None;
    }
    let place = if below.is_empty() { "all objects".to_owned() } else { format!("objects below {below}") };
    Some(format!("rule `{}` expires {place} {when}", rule.id().unwrap_or("without a name")))
}

fn rule_prefix(rule: &LifecycleRule) -> &str {
    let filter = rule.filter();
    let narrow = filter.and_then(LifecycleRuleFilter::prefix);
    let both = filter.and_then(LifecycleRuleFilter::and).and_then(|and| and.prefix());
    #[allow(deprecated, reason = "older rules have it, and servers still send it")]
    let old = rule.prefix();
    narrow.or(both).or(old).unwrap_or("")
}

/// How many seconds the server's clock is ahead of ours, by the `Date` of an answer. The one place below the edge that reads the clock:
/// a difference to a time taken earlier would hold the time in between.
pub(super) async fn clock_ahead(store: &S3Store) -> Result<Option<i64>, Failure> {
    let date = Captured::default();
    let call = store.client.list_objects_v2().bucket(&store.bucket).prefix(&store.prefix).max_keys(1);
    // A refusal has a date as well.
    ask(store, call.customize().interceptor(date.clone()).send(), "").await?;
    let theirs = date.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    let ours = DateTime::from(SystemTime::now());
    Ok(theirs.map(|theirs| theirs.secs() - ours.secs()))
}

/// The `Date` of the answer, if it has one.
#[derive(Debug, Clone, Default)]
struct Captured(Arc<Mutex<Option<DateTime>>>);

impl Intercept for Captured {
    fn name(&self) -> &'static str {
        "Date"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let header = context.response().headers().get("date");
        let date = header.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{LifecycleExpiration, LifecycleRuleAndOperator};

    use super::*;

    fn rule(days: Option<i32>, prefix: &str) -> LifecycleRule {
        let expiration =
            LifecycleExpiration::builder().set_days(days).set_expired_object_delete_marker(days.is_none().then_some(true));
        let filter = LifecycleRuleFilter::builder().prefix(prefix).build();
        LifecycleRule::builder()
            .id("r")
            .expiration(expiration.build())
            .filter(filter)
            .status(ExpirationStatus::Enabled)
            .build()
            .unwrap()
    }

    #[test]
    fn a_rule_counts_if_it_removes_current_objects_of_ours() {
        assert_eq!(expires(&rule(Some(30), ""), "v/").unwrap(), "rule `r` expires all objects 30 days after their creation");
        assert_eq!(
            expires(&rule(Some(30), "v/t/"), "v/").unwrap(),
            "rule `r` expires objects below v/t/ 30 days after their creation"
        );
        assert_eq!(expires(&rule(Some(30), "logs/"), "v/"), None);
        assert_eq!(expires(&rule(None, ""), "v/"), None);
        let mut disabled = rule(Some(30), "");
        disabled.status = ExpirationStatus::Disabled;
        assert_eq!(expires(&disabled, ""), None);
    }

    #[test]
    fn the_prefix_may_stand_in_three_places() {
        let and = LifecycleRuleAndOperator::builder().prefix("and/").build();
        let mut rule = rule(Some(1), "filter/");
        assert_eq!(rule_prefix(&rule), "filter/");
        rule.filter = Some(LifecycleRuleFilter::builder().and(and).build());
        assert_eq!(rule_prefix(&rule), "and/");
        rule.filter = None;
        assert_eq!(rule_prefix(&rule), "");
    }
}
