//! What `deploy/` gives for containers is not run by the tests; that it can be read, is.

use std::path::{Path, PathBuf};

use tenure::config::{Config, schedule::Schedule};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

/// The text below `key: |` in a YAML file, without its indentation.
fn block(text: &str, key: &str) -> String {
    let mut lines = text.lines().skip_while(|line| line.trim() != format!("{key}: |")).skip(1).peekable();
    let indentation = lines.peek().map_or(0, |line| line.len() - line.trim_start().len());
    let below = lines.take_while(|line| line.trim().is_empty() || line.len() - line.trim_start().len() >= indentation);
    below.map(|line| line.get(indentation..).unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_configuration_for_containers_is_one() {
    let text = std::fs::read_to_string(folder().join("kubernetes/configuration.yaml")).unwrap();
    let config = Config::parse(&block(&text, "tenure.toml"), Path::new("/etc/tenure/tenure.toml")).unwrap();
    assert!(config.worker.listen.is_some_and(|listen| listen.0.is_some_and(|address| address.ip().is_unspecified())));
    let schedule = Schedule::parse(&block(&text, "nightly.toml"), Path::new("nightly.toml")).unwrap();
    assert!(schedule.enabled);
    // The deadline of the job is the schedule's, and there is more time to stop than the worker takes.
    let job = std::fs::read_to_string(folder().join("kubernetes/cronjob.yaml")).unwrap();
    assert!(job.contains(&format!("activeDeadlineSeconds: {}", schedule.deadline.unwrap().get().as_secs())));
    assert!(config.worker.stop_within.get().as_secs() < 90 && job.contains("terminationGracePeriodSeconds: 90"));
}

#[test]
fn what_was_not_run_says_so_in_its_first_line() {
    let files = std::fs::read_dir(folder().join("kubernetes")).unwrap().map(|entry| entry.unwrap().path());
    for file in files.chain([folder().join("Containerfile")]) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.lines().next().is_some_and(|line| line.starts_with("# Not run here")), "{}", file.display());
    }
}
