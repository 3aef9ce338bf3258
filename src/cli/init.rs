//! `tenure init`.

mod text;

use std::path::{Path, PathBuf};

use super::{
    clusters,
    edge::{Edge, Ended},
    installation::open_stores,
    stores,
};
use crate::{
    config::{
        Config,
        store::{Role, StoreUrl},
    },
    operation::{
        failure::{Failure, FailureClass},
        init::{
            Plan, ROLES, Request, Stores,
            join::Join,
            kit::{Kit, KitStore},
        },
    },
    retention::Keep,
    signature::SigningKey,
};

pub use crate::operation::init::InitReport;
use text::Written;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where sealed backups go: s3://BUCKET[/PREFIX] or file:///FOLDER
    #[arg(long, value_name = "URL", required_unless_present = "join")]
    vault: Option<StoreUrl>,

    /// Where keys go: another bucket or folder, under other credentials
    #[arg(long, value_name = "URL", required_unless_present = "join")]
    keyring: Option<StoreUrl>,

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

    /// Make keys and configuration for another host of an installation that is there
    #[arg(long, requires = "kit", conflicts_with_all = ["vault", "keyring", "mirror", "recipient", "max_keep", "region", "endpoint", "ca_file"])]
    join: bool,

    /// Its recovery kit, with --join
    #[arg(long, value_name = "FILE", requires = "join")]
    kit: Option<PathBuf>,

    /// An operator's private key, with --join, so that the new keys count at once
    #[arg(long, value_name = "FILE", requires = "join")]
    operator: Option<PathBuf>,
}

/// What a description begins with that somebody forgot to name.
const KEYWORDS: [&str; 7] = ["host", "hostaddr", "port", "user", "dbname", "service", "sslmode"];

fn name_and_connection(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        // `host=/tmp user=x` is a description without a name.
        Some((name, connection)) if !name.is_empty() && !connection.is_empty() && !KEYWORDS.contains(&name) => {
            Ok((name.to_owned(), connection.to_owned()))
        }
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
        let given = [("vault", &self.vault), ("keyring", &self.keyring)];
        let given = given.into_iter().filter_map(|(what, url)| Some((what, url.as_ref()?)));
        let store = |(what, url): (&str, &StoreUrl)| KitStore {
            what: what.to_owned(),
            url: url.to_string(),
            settings: self.settings(url),
        };
        given.chain(self.mirror.iter().map(|url| ("mirror", url))).map(store).collect()
    }
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let config_file = edge.global.config_file();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if let Some(kit) = args.kit.as_deref().filter(|_| args.join) {
        let join = Join {
            config_file: config_file.clone(),
            kit: read_kit(kit)?,
            host,
            operator: args.operator.as_deref().map(read_operator).transpose()?,
        };
        join.refuse_existing()?;
        let written = Written { stores: &join.kit.stores, recipients: &join.kit.recipients, roles: &["worker", "restorer"] };
        let text = text::configuration(&args, &written);
        let config = checked(&text, &config_file)?;
        let (vault, keyring, mirrors) = open_stores(&config, Role::Writer).await?;
        let report = join.apply(&text, &Stores { vault, keyring, mirrors }, edge.now()).await?;
        edge.output.report("init", &report, text::join_report)?;
        return Ok(Ended::default());
    }
    let plan = Plan::new(Request {
        config_file: config_file.clone(),
        host,
        recipients: args.recipient.clone(),
        max_keep: args.max_keep,
        stores: args.stores(),
    })?;
    let roles = ROLES.map(|(role, _)| role);
    let text = text::configuration(&args, &Written { stores: &args.stores(), recipients: plan.recipients(), roles: &roles });
    let config = checked(&text, &config_file)?;
    let folder = &config.folder;
    let mut mirrors = Vec::new();
    for mirror in &config.keyring.mirrors {
        mirrors.push(stores::open_or_create(&mirror.opening(Role::Writer), folder).await?);
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

/// What `init` writes must be a configuration: contradictions are found before anything is made.
fn checked(text: &str, config_file: &Path) -> Result<Config, Failure> {
    let config = Config::parse(text, config_file)
        .map_err(|error| Failure::new(FailureClass::Usage, "configuration", &error.key, error.message).hint(error.hint))?;
    clusters::fleet(&config)?;
    Ok(config)
}

fn read_kit(path: &Path) -> Result<Kit, Failure> {
    let wrong = |error: Box<dyn std::error::Error + Send + Sync>| {
        Failure::new(
            FailureClass::Usage,
            "bad-kit",
            path.display(),
            format!("{} cannot be used as a recovery kit", path.display()),
        )
        .hint("name the recovery-kit.txt that `tenure init` wrote; its secret line may be left out")
        .because(error)
    };
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(path).map_err(|error| wrong(error.into()))?);
    Kit::parse(&text).map_err(|error| wrong(error.into()))
}

fn read_operator(path: &Path) -> Result<SigningKey, Failure> {
    let wrong = |error: Box<dyn std::error::Error + Send + Sync>| {
        Failure::new(FailureClass::Usage, "bad-key", path.display(), format!("{} is no key to sign with", path.display()))
            .hint("leave --operator out, and an operator signs by hand what will be printed")
            .because(error)
    };
    let file = zeroize::Zeroizing::new(std::fs::read(path).map_err(|error| wrong(error.into()))?);
    SigningKey::parse(&file).map_err(|error| wrong(error.into()))
}
