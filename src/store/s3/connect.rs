//! Reaching a bucket: credentials, region, TLS.

use std::error::Error;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::config::{
    ProvideCredentials, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider, SharedHttpClient,
};
use aws_smithy_http_client::tls::TrustStore;
use aws_smithy_runtime_api::client::http::http_client_fn;

use super::{Credentials, Limits, S3Settings};
use crate::store::retry::Failure;
use crate::store::{StoreErrorKind, https};

/// The region of servers that have none: they expect it in signatures.
const NO_REGION: &str = "us-east-1";

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("no credentials from {whose}")]
    NoCredentials { whose: String, source: Box<dyn Error + Send + Sync> },
    #[error("no region is configured, and neither environment nor profile names one")]
    NoRegion,
}

pub(super) async fn client(settings: &S3Settings) -> Result<aws_sdk_s3::Client, Failure> {
    // Whoever gives out credentials is another server, with a certificate that the system knows.
    let for_credentials = http_client(TrustStore::default(), &settings.limits)?;
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(for_credentials.clone())
        .retry_config(RetryConfig::standard())
        .timeout_config(TimeoutConfig::builder().connect_timeout(settings.limits.connect).build());
    let region = settings.region.as_deref().or(settings.endpoint.as_ref().map(|_| NO_REGION));
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    match &settings.credentials {
        Credentials::Usual => {}
        Credentials::Profile(profile) => loader = loader.profile_name(profile),
        Credentials::Given(given) => loader = loader.credentials_provider(given.clone()),
    }
    let usual = loader.load().await;
    let region = usual.region().ok_or_else(|| Failure::lasting(StoreErrorKind::Refused, ConnectError::NoRegion))?;

    let credentials = match &settings.credentials {
        Credentials::Given(given) => given.clone(),
        // The usual chain would let credentials in the environment go before the profile that was asked for.
        Credentials::Profile(profile) => {
            let through = ProviderConfig::without_region().with_region(Some(region.clone())).with_http_client(for_credentials);
            let provider = ProfileFileCredentialsProvider::builder().configure(&through).profile_name(profile).build();
            SharedCredentialsProvider::new(provider)
        }
        Credentials::Usual => {
            let missing = || ConnectError::NoCredentials { whose: whose(settings), source: "there is no such chain".into() };
            usual.credentials_provider().ok_or_else(|| Failure::lasting(StoreErrorKind::Denied, missing()))?
        }
    };
    if let Err(source) = credentials.provide_credentials().await {
        let error = ConnectError::NoCredentials { whose: whose(settings), source: source.into() };
        return Err(Failure::lasting(StoreErrorKind::Denied, error));
    }

    let mut config = aws_sdk_s3::config::Builder::from(&usual)
        .region(region.clone())
        .credentials_provider(credentials)
        .http_client(http_client(trust(settings)?, &settings.limits)?)
        .force_path_style(settings.path_style.unwrap_or(settings.endpoint.is_some()))
        // We try again ourselves, knowing more: see `retry`. And limit time by the length of the body.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(settings.limits.connect).build())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // Every PUT carries its SHA-256. The SDK's trailers on top are refused by some servers.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &settings.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Ok(aws_sdk_s3::Client::from_conf(config.build()))
}

/// Whose credentials they are, for messages.
pub(super) fn whose(settings: &S3Settings) -> String {
    match &settings.credentials {
        Credentials::Usual => "the environment or the default profile".into(),
        Credentials::Profile(profile) => format!("profile `{profile}`"),
        Credentials::Given(_) => "the caller".into(),
    }
}

fn http_client(trust: TrustStore, limits: &Limits) -> Result<SharedHttpClient, Failure> {
    let connector = https::connector(trust, limits.connect).map_err(|error| Failure::lasting(StoreErrorKind::Refused, error))?;
    Ok(http_client_fn(move |_, _| connector.clone()))
}

fn trust(settings: &S3Settings) -> Result<TrustStore, Failure> {
    let plain = settings.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    https::trust(settings.ca_file.as_deref(), plain).map_err(|error| Failure::lasting(StoreErrorKind::Refused, error))
}
