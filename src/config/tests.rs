use std::path::Path;

use super::Config;

const SMALL: &str = r#"
[vault]
url = "file:///srv/vault"

[keyring]
url = "file:///srv/keyring"
recipients = ["age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z"]

[cluster.eu-1]
primary = "host=/run/postgresql user=postgres"
databases = "tenant_{tenant}"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/etc/tenure/tenure.toml")).map_err(|error| format!("{error} | {} | {}", error.key, error.hint))
}

fn refused(text: &str) -> String {
    parse(text).expect_err("it should be refused")
}

#[test]
fn a_small_configuration_has_defaults() {
    let config = parse(SMALL).unwrap();
    assert_eq!(config.limits.jobs, 4);
    assert_eq!(config.cluster["eu-1"].connections, 8);
    assert_eq!(config.policy(&"acme".parse().unwrap()).keep.to_string(), "6 months");
    assert_eq!(config.path(Path::new("keys/worker")), Path::new("/etc/tenure/keys/worker"));
    let shown = toml::to_string(&config).unwrap();
    assert_eq!(parse(&shown).unwrap(), config, "what `config show` prints is a configuration");
}

#[test]
fn the_documented_configuration_is_one_and_has_every_setting() {
    let page = include_str!("../../docs/configuration.md");
    let block = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let config = parse(block).unwrap();
    assert_eq!(config.cluster["eu-1"].password_command.len(), 2);
    let mut schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
    let mut settings: Vec<String> = Vec::new();
    let definitions = schema["$defs"].take();
    for table in definitions.as_object().unwrap().values().chain([&schema]) {
        settings.extend(table["properties"].as_object().into_iter().flat_map(|properties| properties.keys().cloned()));
    }
    assert!(settings.len() > 40, "{settings:?}");
    // These say what is not built, or stand in tables that are.
    let later = ["name", "gone_after", "grace"];
    for setting in settings.iter().filter(|setting| !later.contains(&setting.as_str())) {
        assert!(page.contains(setting.as_str()), "docs/configuration.md has no `{setting}`");
    }
}

#[test]
fn the_first_policy_that_matches_counts() {
    let config =
        parse(&format!("{SMALL}[[policy]]\ntenants = [\"bank_*\"]\nkeep = \"1 year\"\n[[policy]]\nkeep = \"30 days\"\n"))
            .unwrap();
    assert_eq!(config.policy(&"bank_a".parse().unwrap()).keep.to_string(), "1 year");
    assert_eq!(config.policy(&"acme".parse().unwrap()).keep.to_string(), "30 days");
}

#[test]
fn every_refusal_names_line_key_and_cure() {
    let at = "/etc/tenure/tenure.toml line";
    for (addition, expected) in [
        (
            "databses = \"x\"",
            format!("{at} 12: unknown key `databses` in [cluster.eu-1] | cluster.eu-1.databses | did you mean `databases`?"),
        ),
        (
            "query = \"SELECT 1\"",
            format!(
                "{at} 12: cluster eu-1 has both `databases` and `query` | cluster.eu-1.query | one rule says which databases are tenants: keep one of them"
            ),
        ),
        (
            "connections = \"many\"",
            format!(
                "{at} 12: `cluster.eu-1.connections`: invalid type: string \"many\", expected u32 | cluster.eu-1.connections | "
            ),
        ),
        (
            "connections = 1",
            format!(
                "{at} 12: cluster eu-1 may have 1 connections, and one tenant needs 4 | cluster.eu-1.connections | use 4 or more; 8 is the default"
            ),
        ),
        (
            "admin = \"host=x password=secret\"",
            format!(
                "{at} 12: `admin` of cluster eu-1 holds a password | cluster.eu-1.admin | secrets stay out of this file: use ~/.pgpass, passfile=FILE, PGPASSWORD or password_command"
            ),
        ),
        (
            "replica_wait = \"soon\"",
            format!(
                "{at} 12: `cluster.eu-1.replica_wait`: `soon` is not a length of time | cluster.eu-1.replica_wait | expected a whole number and s, min, h, days or weeks, like `20s` or `7 days`"
            ),
        ),
        (
            "[limits]\njobs = 0",
            format!(
                "{at} 13: `limits.jobs` is 0: nothing could be done like that | limits.jobs | use 1 to 256; 4 is the default"
            ),
        ),
        (
            "[worker]\nlisten = \"8368\"",
            format!(
                "{at} 13: `worker.listen`: `8368` is no address to listen on | worker.listen | expected an address of this host with a port, like `127.0.0.1:8368` or `[::1]:8368`, or `none`"
            ),
        ),
        (
            "[notify.webhook]",
            format!(
                "{at} 12: [notify.webhook] has no URL | notify.webhook | give the URL by `url_file` or by `url_env`: who knows it can write there, so it does not stand in this file"
            ),
        ),
        (
            "[notify.email]\nserver = \"mail.example.org\"\ntls = \"none\"\nfrom = \"a@b.example\"\nto = []",
            format!(
                "{at} 14: `notify.email.tls`: mail to mail.example.org would go over the network in clear | notify.email.tls | leave the line out: STARTTLS is the default"
            ),
        ),
        (
            "[notify.email]\nserver = \"localhost\"\nuser = \"a\"\nfrom = \"nobody\"\nto = []",
            format!(
                "{at} 14: [notify.email]: a login takes `user` and one of `password_file` and `password_env` | notify.email.user | write both, or neither for a server that asks for none"
            ),
        ),
        (
            "[notify.email]\nserver = \"localhost\"\nfrom = \"nobody\"\nto = [\"a@b.example\"]",
            format!(
                "{at} 14: `notify.email.from`: \"nobody\" is no address | notify.email.from | write ops@example.org, or Ops <ops@example.org>"
            ),
        ),
        (
            "[approvals]\nerase = 0",
            format!(
                "{at} 13: `approvals.erase` is 0: nobody would have to sign | approvals.erase | write how many operators must sign, or leave the line out"
            ),
        ),
        (
            "[[policy]]\n[[policy]]\nkeep = \"1 year\"",
            format!(
                "{at} 13: policy 2 is never reached: policy 1 covers every tenant | policy[1].tenants | the first policy that matches counts: put the one for everybody last"
            ),
        ),
        (
            "[[policy]]\nkeep = \"6 month s\"",
            format!(
                "{at} 13: `policy.keep`: `6 month s` is not a retention | policy.keep | expected a number from 1 to 9999 and days, weeks, months or years, like `6 months`"
            ),
        ),
        (
            "[restore]\nallow = [\"everything\"]",
            format!(
                "{at} 13: `everything` in restore.allow is nothing that could be allowed | restore.allow | use any of c-functions, extension:NAME, event-triggers, powerful-owners, subscriptions, superuser-code, all"
            ),
        ),
        ("[signign]", format!("{at} 12: unknown key `signign` | signign | did you mean `signing`?")),
        (
            "[cluster.eu-2]\nprimary = \"host=b\"\nschemas = \"app.org_{tenant}\"",
            format!(
                "{at} 14: `cluster.eu-2.schemas`: backing up schemas as tenants is not built yet | cluster.eu-2.schemas | use `databases` or `query`"
            ),
        ),
        (
            "[cluster.eu-2]\nprimary = \"host=b\"",
            format!(
                "{at} 12: cluster eu-2 does not say which databases are tenants | cluster.eu-2 | add `databases = \"tenant_{{tenant}}\"`, or a `query`"
            ),
        ),
        (
            "[cluster.eu-2]\nprimary = \"host=/run/postgresql user=postgres\"\ndatabases=\"{tenant}\"",
            format!(
                "{at} 13: clusters eu-1 and eu-2 have the same primary: each tenant would be there twice | cluster.eu-2.primary | keep one of the two"
            ),
        ),
    ] {
        assert_eq!(refused(&format!("{SMALL}{addition}\n")), expected);
    }
}

#[test]
fn what_is_no_table_is_told_how_one_looks() {
    let mirror = SMALL.replacen("[cluster", "mirrors = [\"s3://other\"]\n\n[cluster", 1);
    assert_eq!(
        refused(&mirror),
        "/etc/tenure/tenure.toml line 9: `keyring.mirrors`: invalid type: string \"s3://other\", expected a table, such as { url = \"s3://bucket\" } | keyring.mirrors | "
    );
}

#[test]
fn stores_must_be_apart() {
    for (from, to, expected) in [
        ("file:///srv/keyring", "file:///srv/vault", "the vault and the keyring are the same place: file:///srv/vault"),
        ("file:///srv/keyring", "file:///srv/vault/./", "the vault and the keyring are the same place: file:///srv/vault"),
        (
            "file:///srv/keyring",
            "file:///srv/vault/keys",
            "the vault and the keyring lie one in the other: file:///srv/vault/keys",
        ),
        ("file:///srv/vault", "file:///srv", "the vault and the keyring lie one in the other: file:///srv/keyring"),
    ] {
        let refusal = refused(&SMALL.replace(from, to));
        assert!(refusal.contains(expected), "{refusal}");
    }
    let mirrored = |mirror: &str| SMALL.replace("recipients", &format!("mirrors = [{{ url = \"{mirror}\" }}]\nrecipients"));
    assert!(refused(&mirrored("file:///srv/keyring")).contains("line 7: the keyring and mirror 1 are the same place"));
    assert!(parse(&mirrored("file:///srv/keyring2")).is_ok());
    for (url, why) in [
        ("file://srv/vault", "a directory is written file://"),
        ("http://x", "neither s3:// nor file:///"),
        ("s3://key:secret@bucket", "credentials come from"),
    ] {
        let refusal = refused(&SMALL.replace("file:///srv/vault", url));
        assert!(refusal.contains("line 3") && refusal.contains(why), "{refusal}");
    }
}

#[test]
fn what_is_missing_is_named() {
    assert!(refused("").contains("there is no [vault]"));
    assert!(refused(&SMALL.replace("recipients", "# ")).contains("line 5: [keyring] has no `recipients`"));
    assert!(refused("[vault\n").contains("line 1"));
}

#[test]
fn a_lock_needs_a_bucket_and_backups_that_are_kept_longer() {
    let with = |lock: &str, more: &str| {
        SMALL.replace("file:///srv/vault", "s3://vault").replace("[vault]", &format!("[vault]\nlock = \"{lock}\"")) + more
    };
    let config = parse(&with("compliance 5 weeks", "")).unwrap();
    assert_eq!(config.vault.lock.0.unwrap().to_string(), "compliance 35 days");
    assert_eq!(parse(&with("none", "")).unwrap().vault.lock.0, None);
    assert!(refused(&SMALL.replace("[vault]", "[vault]\nlock = \"governance 35 days\"")).contains("the vault is a directory"));
    assert!(
        refused(&with("governance", "")).ends_with(
            "| vault.lock | expected `none`, or governance or compliance and 1 to 3650 days, like `governance 35 days`"
        )
    );

    // 52.5 days, and 53 in which nothing expires.
    let keep = |keep: &str| format!("\n[[policy]]\ntenants = [\"bank_*\"]\nkeep = \"{keep}\"\n");
    assert!(parse(&with("governance 35 days", &keep("53 days"))).is_ok());
    let refusal = refused(&with("governance 35 days", &keep("52 days")));
    for words in ["`keep` is 52 days", "\"governance 35 days\", locks for up to 52.5 days"] {
        assert!(refusal.contains(words), "{refusal}");
    }
    // 59 days in some years; and what no policy names is kept for six months.
    assert!(refused(&with("governance 40 days", &keep("2 months"))).contains("`keep` is 2 months"));
    assert!(refused(&with("governance 121 days", &keep("1 year"))).contains("`keep` is 6 months by default"));
    assert!(parse(&with("governance 120 days", "")).is_ok());
}
