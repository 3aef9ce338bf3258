//! Names that look like something else, for us and for the programs that we start.

use super::{target, text};
use crate::harness::postgres::{bin, quoted, shared, unique};
use std::process::Stdio;
use tenure::postgres::ChildEnvironment;
use tenure::postgres::tools::{Program, ToolError, Tools};

/// The schema of whatever database the environment leads to.
pub(super) async fn dump(environment: &ChildEnvironment) -> Result<String, ToolError> {
    let tools = Tools::new(Some(bin().display().to_string()), None);
    let tool = tools.find(Program::Dump, 14).await?;
    let output = tool.run(&["--schema-only".into()], environment, Stdio::null(), 1 << 20).await?;
    Ok(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn every_name_leads_to_that_very_database() {
    let cluster = shared();
    let suffix = unique("n");
    let names = [
        "host=127.0.0.254 port=1",
        "postgresql://x/",
        "a\"b'c",
        "-f",
        "--help",
        "new\nline",
        "emoji 🦀 ünï",
        "service=x",
        "a b=c,d%20\\e",
        " leading and trailing ",
        "$(id)`id`;|&",
    ]
    .map(|name| format!("{name}{suffix}"));
    for target in [target(&cluster.description()), target(&cluster.tcp_description())] {
        for (number, name) in names.iter().enumerate() {
            if target.endpoint().starts_with('/') {
                cluster.sql("postgres", &format!("CREATE DATABASE {}", quoted(name)));
            }
            let session = target.connect(name, "tenure test").await.unwrap();
            assert_eq!(&text(&session, "SELECT current_database()::text").await, name);
            session.batch_execute(&format!("CREATE TABLE IF NOT EXISTS marker_{number}_{suffix} ()")).await.unwrap();
            for environment in [target.child_environment(name).await.unwrap(), session.child_environment(name).await.unwrap()] {
                let dumped = dump(&environment).await.unwrap();
                assert!(dumped.contains(&format!("marker_{number}_{suffix} (")), "{name:?}: {dumped}");
            }
        }
    }
}

#[tokio::test]
async fn a_childs_environment_is_all_that_it_has_and_shows_no_password() {
    let environment = target(&shared().tcp_description()).child_environment("postgres").await.unwrap();
    let shown = format!("{environment:?}");
    assert!(shown.contains("PGDATABASE") && !shown.contains("swordfish"), "{shown}");
    assert_eq!(environment.variable("PGSSLMODE"), Some("prefer"));
    assert_eq!(environment.variable("PGPASSWORD"), None);
    let mut command = tokio::process::Command::new("/usr/bin/env");
    command.env("PGSERVICE", "other").env("PGSSLKEY", "other");
    environment.apply(&mut command);
    let output = String::from_utf8(command.output().await.unwrap().stdout).unwrap();
    assert!(output.contains("PGPASSWORD=swordfish"), "{output}");
    assert!(!output.contains("other") && !output.contains("PATH="), "{output}");
}

#[tokio::test]
async fn a_failing_program_says_why() {
    let environment = target(&shared().description()).child_environment("nowhere").await.unwrap();
    let error = dump(&environment).await.unwrap_err();
    assert!(matches!(&error, ToolError::Failed { stderr, .. } if stderr.contains("\"nowhere\" does not exist")), "{error}");
}
