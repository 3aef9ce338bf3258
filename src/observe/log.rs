//! Logs: one line an event, on standard error, as text or JSON. Fields have dotted names (`tenant.name`) and units (`duration_ms`).

use std::io::Write;

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, filter_fn},
    fmt::{MakeWriter, format::Writer, time::FormatTime},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use super::screen::Screen;
use crate::{cli::global::Global, printable};

/// Starts logging for the whole process. `directives` (TENURE_LOG) are `tracing`'s filter directives and replace `-q` and `-v`.
pub fn start(global: &Global, screen: Screen, directives: Option<&str>) {
    let filter = directives.and_then(|directives| EnvFilter::try_new(directives).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(default_directives(global, &screen)));
    let filter = filter.and(filter_fn(holds_no_secret));
    let layer = tracing_subscriber::fmt::layer().with_ansi(global.is_colored(screen.is_terminal));
    let layer = layer.with_target(global.verbose > 1).with_timer(Seconds);
    let json = global.has_json_logs();
    let lines = Lines { screen, json };
    let layer = if json {
        layer.json().flatten_event(true).with_writer(lines).with_filter(filter).boxed()
    } else {
        layer.with_writer(lines).with_filter(filter).boxed()
    };
    // A second start, in a test, is no reason to stop: the first one goes on.
    tracing_subscriber::registry().with(layer).try_init().ok();
}

/// The driver logs each statement whole: one that makes a login holds its password's verifier, and others hold rows. The HTTP client may
/// log a request, whose path is the secret of a webhook. No directive brings that out.
fn holds_no_secret(about: &Metadata<'_>) -> bool {
    let is_talkative =
        ["tokio_postgres", "hyper", "aws_smithy_http_client"].iter().any(|crate_| about.target().starts_with(crate_));
    !is_talkative || *about.level() <= Level::INFO
}

/// Where bars are drawn they say how it goes; elsewhere the lines do.
fn default_directives(global: &Global, screen: &Screen) -> &'static str {
    match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) if screen.has_bars => "warn",
        (false, 0) => "warn,tenure=info",
        (false, 1) => "warn,tenure=debug",
        (false, 2) => "info,tenure=trace",
        _ => "debug,tenure=trace",
    }
}

/// UTC, to the second in text that people read; logs that need more have fields with durations.
struct Seconds;

impl FormatTime for Seconds {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
    }
}

struct Lines {
    screen: Screen,
    json: bool,
}

/// Collects one event, and writes it in one piece.
struct Line {
    screen: Screen,
    json: bool,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;
    fn make_writer(&'a self) -> Line {
        Line { screen: self.screen.clone(), json: self.json, bytes: Vec::new() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.json {
            self.bytes = printable::json(&String::from_utf8_lossy(&self.bytes)).into_bytes();
        }
        // Nobody is left to be told that standard error is gone.
        self.screen.write(&self.bytes).ok();
    }
}
