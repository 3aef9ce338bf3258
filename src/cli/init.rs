//! `tenure init`.

mod text;

use std::path::PathBuf;

use super::{
    clusters,
    edge::{Edge, Ended},
    stores,
};
use crate::{
    config::{
        Config,
        store::{Role, StoreUrl},
    },
    operation::{
        failure::{Failure, FailureClass},
        init::{Plan, Request, Stores, kit::KitStore},
    },
    retention::Keep,
};

pub use crate::operation::init::InitReport;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where sealed backups go: s3://BUCKET[/PREFIX] or file:///FOLDER
    #[arg(long, value_name = "URL")]
    vault: StoreUrl,

    /// Where keys go: another bucket or folder, under other credentials
    #[arg(long, value_name = "URL")]
    keyring: StoreUrl,

    /// A further copy of the keys; may be given again
    #[arg(long, value_name = "URL")]
    mirror: Vec<StoreUrl>,

    /// A name for the PostgreSQL cluster, and libpq's description of a connection to its primary
    #[arg(long, value_name = "NAME=CONNECTION", value_parser = name_and_connection)]
    cluster: (String, String),

    /// Description of a connection to a streaming replica; may be given again
    #[arg(long, value_name = "CONNECTION")]
    replica: Vec<String>,

    /// Which databases are tenants, like 'tenant_{tenant}'
    #[arg(long, value_name = "PATTERN")]
    databases: String,

    /// A recovery identity's public key, made elsewhere; may be given again. Without it one is made
    #[arg(long, value_name = "age1…")]
    recipient: Vec<String>,

    /// No backup may ever be kept longer, whatever a policy says
    #[arg(long, value_name = "TIME", default_value = "1 year")]
    max_keep: Keep,

    /// Region of the buckets
    #[arg(long)]
    region: Option<String>,

    /// Another S3 server than Amazon's
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,

    /// Certificates to trust for it
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

fn name_and_connection(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, connection)) if !name.is_empty() && !connection.is_empty() => Ok((name.to_owned(), connection.to_owned())),
        _ => Err("expected a name, `=`, and a connection, like eu-1='host=/run/postgresql user=postgres'".to_owned()),
    }
}

impl Args {
    /// The settings that an S3 store needs besides its address, as the configuration writes them.
    fn settings(&self, url: &StoreUrl) -> Vec<String> {
        if matches!(url, StoreUrl::Directory(_)) {
            return Vec::new();
        }
        let ca_file = self.ca_file.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        let settings = [
            ("region", self.region.clone()),
            ("endpoint", self.endpoint.clone()),
            ("ca_file", ca_file.map(|path| path.display().to_string())),
        ];
        settings.into_iter().filter_map(|(key, value)| Some(format!("{key} = {}", text::quote(&value?)))).collect()
    }

    fn stores(&self) -> Vec<KitStore> {
        let store =
            |what: &str, url: &StoreUrl| KitStore { what: what.to_owned(), url: url.to_string(), settings: self.settings(url) };
        let mut stores = vec![store("vault", &self.vault), store("keyring", &self.keyring)];
        stores.extend(self.mirror.iter().map(|url| store("mirror", url)));
        stores
    }
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let config_file = edge.global.config_file();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let plan = Plan::new(Request {
        config_file: config_file.clone(),
        host,
        recipients: args.recipient.clone(),
        max_keep: args.max_keep,
        stores: args.stores(),
    })?;
    let text = text::configuration(&args, plan.recipients());
    // What init writes must be a configuration: contradictions are found before anything is made.
    let config = Config::parse(&text, &config_file).map_err(|error| Failure {
        message: error.message.clone(),
        ..Failure::new(FailureClass::Usage, "configuration", &error.key, "").hint(error.hint.clone())
    })?;
    clusters::fleet(&config)?;
    let folder = &config.folder;
    let mut mirrors = Vec::new();
    for mirror in &config.keyring.mirrors {
        mirrors.push(stores::open_or_create(&mirror.opening(), folder).await?);
    }
    let stores = Stores {
        vault: stores::open_or_create(&config.vault.opening(Role::Writer), folder).await?,
        keyring: stores::open_or_create(&config.keyring.opening(Role::Writer), folder).await?,
        mirrors,
    };
    let report = plan.apply(&text, &stores, edge.now()).await?;
    edge.output.report("init", &report, text::report)?;
    Ok(Ended::default())
}
