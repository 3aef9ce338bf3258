//! What an answer of the server, or its absence, means.

use std::error::Error;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::store::StoreErrorKind;
use crate::store::retry::Failure;

/// An error that the server gave a name.
#[derive(Debug, thiserror::Error)]
#[error(
    "the server answers {status}{}{}{}",
    Prefixed(" ", code),
    Prefixed(": ", message),
    Prefixed(", with the credentials of ", credentials)
)]
struct Refusal {
    status: u16,
    code: String,
    message: String,
    /// Only where they are what is wrong.
    credentials: String,
}

struct Prefixed<'a>(&'static str, &'a str);

impl std::fmt::Display for Prefixed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.1.is_empty() { Ok(()) } else { write!(f, "{}{}", self.0, self.1) }
    }
}

/// Status and error code, as far as there was an answer.
pub(super) fn status_and_code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> (u16, &str) {
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    (status, error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or(""))
}

/// What to do about a failed call. `credentials` says whose they are.
pub(super) fn failure<E>(error: SdkError<E, HttpResponse>, credentials: &str) -> Failure
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let (status, code) = status_and_code(&error);
    let (kind, passing) = match &error {
        SdkError::ServiceError(_) => classify(status, code),
        // An answer that cannot be read: cut off, or a proxy's page.
        SdkError::ResponseError(_) if (200..300).contains(&status) || status == 0 => (StoreErrorKind::Unavailable, true),
        SdkError::ResponseError(_) => classify(status, ""),
        SdkError::TimeoutError(_) => (StoreErrorKind::Unavailable, true),
        SdkError::DispatchFailure(failure) => {
            let lasting = failure.is_user() || failure.as_connector_error().is_some_and(|error| is_bad_certificate(error));
            (StoreErrorKind::Unavailable, !lasting)
        }
        _ => (StoreErrorKind::Refused, false),
    };
    let source: Box<dyn Error + Send + Sync> = if let SdkError::ServiceError(service) = &error {
        Box::new(Refusal {
            status,
            code: code.to_owned(),
            message: service.err().message().unwrap_or("").to_owned(),
            credentials: if kind == StoreErrorKind::Denied { credentials.to_owned() } else { String::new() },
        })
    } else {
        error.into_source().unwrap_or_else(Into::into)
    };
    Failure { kind, passing, source: Some(source) }
}

/// By the codes of Amazon S3, Ceph, MinIO and SeaweedFS; by the status where there is no code, as in answers to HEAD.
fn classify(status: u16, code: &str) -> (StoreErrorKind, bool) {
    let lasting = match code {
        "NoSuchBucket" => StoreErrorKind::NoSuchStore,
        "NoSuchKey" => StoreErrorKind::NotFound,
        "PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException" | "AuthorizationHeaderMalformed" => {
            StoreErrorKind::Redirected
        }
        "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" => StoreErrorKind::Full,
        "RequestTimeTooSkewed" => StoreErrorKind::ClockSkewed,
        "SlowDown"
        | "RequestTimeout"
        | "InternalError"
        | "ServiceUnavailable"
        | "OperationAborted"
        | "ConditionalRequestConflict" => {
            return (StoreErrorKind::Unavailable, true);
        }
        _ => match status {
            301 | 302 | 303 | 307 | 308 => StoreErrorKind::Redirected,
            401 | 403 => StoreErrorKind::Denied,
            404 => StoreErrorKind::NotFound,
            507 => StoreErrorKind::Full,
            408 | 409 | 425 | 429 | 500 | 502 | 503 | 504 => return (StoreErrorKind::Unavailable, true),
            _ => StoreErrorKind::Refused,
        },
    };
    (lasting, false)
}

/// Whether TLS broke off for a reason that will be the same next time.
fn is_bad_certificate(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return true;
        }
        // An I/O error hides what it carries from `source`.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(carried) => Some(carried),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_before_statuses() {
        assert_eq!(classify(404, "NoSuchBucket"), (StoreErrorKind::NoSuchStore, false));
        assert_eq!(classify(404, ""), (StoreErrorKind::NotFound, false));
        assert_eq!(classify(400, "AuthorizationHeaderMalformed"), (StoreErrorKind::Redirected, false));
        assert_eq!(classify(400, "RequestTimeout"), (StoreErrorKind::Unavailable, true));
        assert_eq!(classify(403, "QuotaExceeded"), (StoreErrorKind::Full, false));
        assert_eq!(classify(403, "InvalidAccessKeyId"), (StoreErrorKind::Denied, false));
        assert_eq!(classify(503, ""), (StoreErrorKind::Unavailable, true));
        assert_eq!(classify(403, "RequestTimeTooSkewed"), (StoreErrorKind::ClockSkewed, false));
        assert_eq!(classify(501, "NotImplemented"), (StoreErrorKind::Refused, false));
    }

    #[test]
    fn a_refusal_names_the_credentials_only_where_it_has_them() {
        let refusal = |credentials: &str| {
            Refusal { status: 403, code: "AccessDenied".into(), message: String::new(), credentials: credentials.into() }
                .to_string()
        };
        assert_eq!(refusal(""), "the server answers 403 AccessDenied");
        assert_eq!(refusal("profile `w`"), "the server answers 403 AccessDenied, with the credentials of profile `w`");
    }
}
