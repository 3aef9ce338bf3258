//! Progress: bars on a terminal, plain lines elsewhere.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressStyle};

use super::screen::Screen;
use crate::{operation::progress::Progress, tenant::TenantName};

/// Chooses by what the screen is.
#[must_use]
pub fn for_screen(screen: &Screen) -> Box<dyn Progress> {
    if screen.has_bars { Box::new(Bars::new(screen.clone())) } else { Box::new(Lines::default()) }
}

/// One bar for each tenant in work, and one for the whole run below them.
struct Bars {
    screen: Screen,
    total: ProgressBar,
    tenants: Mutex<HashMap<TenantName, Bar>>,
}

/// A tenant's bar, and how many bytes of it the total counts on.
struct Bar {
    bar: ProgressBar,
    expected: u64,
}

const TENANT: &str = "{prefix:24!} {bar:24} {bytes:>11} of {total_bytes:11} {bytes_per_sec:>13}  {msg}";
const UNKNOWN: &str = "{prefix:24!} {spinner:24} {bytes:>11}                {bytes_per_sec:>13}  {msg}";
const TOTAL: &str = "{prefix:24!} {bar:24} {bytes:>11} of {total_bytes:11} {bytes_per_sec:>13}  {eta} left";
const TOTAL_UNKNOWN: &str = "{prefix:24!} {spinner:24} {bytes:>11}                {bytes_per_sec:>13}  {elapsed}";

fn style(template: &str) -> ProgressStyle {
    // The templates are constants, and a test parses them; a plain bar would do as well.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

impl Bars {
    fn new(screen: Screen) -> Self {
        Self { screen, total: ProgressBar::hidden(), tenants: Mutex::default() }
    }

    fn bar(&self, tenant: &TenantName) -> Option<ProgressBar> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).map(|bar| bar.bar.clone())
    }
}

impl Progress for Bars {
    fn planned(&self, tenants: usize, expected_bytes: u64) {
        if tenants > 1 {
            self.total.set_length(expected_bytes);
            self.total.set_style(style(if expected_bytes > 0 { TOTAL } else { TOTAL_UNKNOWN }));
            self.total.set_prefix(format!("{tenants} tenants"));
            self.screen.bars().add(self.total.clone());
        }
    }

    fn tenant_started(&self, tenant: &TenantName, expected_bytes: u64) {
        let style = style(if expected_bytes > 0 { TENANT } else { UNKNOWN });
        // Nothing may be set on it before it is among the others: alone it would draw itself, and that line would stay.
        let bar = ProgressBar::new(expected_bytes).with_style(style).with_prefix(tenant.to_string());
        let bar = self.screen.bars().insert(0, bar);
        bar.enable_steady_tick(Duration::from_millis(200));
        let bar = Bar { bar, expected: expected_bytes };
        if let Some(earlier) = self.tenants.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), bar) {
            earlier.bar.finish_and_clear();
        }
    }

    fn advanced(&self, tenant: &TenantName, bytes: u64) {
        self.total.inc(bytes);
        if let Some(bar) = self.bar(tenant) {
            bar.inc(bytes);
            // What was expected was a guess; a bar never says more than all.
            if bar.length().is_some_and(|length| length > 0 && bar.position() > length) {
                bar.set_length(bar.position());
            }
        }
    }

    fn stage(&self, tenant: &TenantName, stage: &'static str) {
        if let Some(bar) = self.bar(tenant) {
            bar.set_message(stage);
        }
    }

    fn tenant_finished(&self, tenant: &TenantName, _: &str) {
        let finished = self.tenants.lock().unwrap_or_else(PoisonError::into_inner).remove(tenant);
        if let Some(Bar { bar, expected }) = finished {
            // The total counted on a guess; now it is known.
            if let Some(total) = self.total.length() {
                self.total.set_length(total.saturating_sub(expected) + bar.position());
            }
            bar.finish_and_clear();
            self.screen.bars().remove(&bar);
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.total.finish_and_clear();
        for bar in self.tenants.lock().unwrap_or_else(PoisonError::into_inner).values() {
            bar.bar.finish_and_clear();
        }
    }
}

/// How often a long tenant says that it is alive.
const EVERY: Duration = Duration::from_secs(30);

/// A line when a tenant begins and ends, and every half minute in between.
#[derive(Default)]
struct Lines {
    tenants: Mutex<HashMap<TenantName, Running>>,
}

struct Running {
    started: Instant,
    said: Instant,
    bytes: u64,
    expected: u64,
    stage: &'static str,
}

impl Progress for Lines {
    fn planned(&self, tenants: usize, expected_bytes: u64) {
        if tenants > 1 {
            tracing::info!(tenants, expected_bytes, "{tenants} tenants, {}", BinaryBytes(expected_bytes));
        }
    }

    fn tenant_started(&self, tenant: &TenantName, expected_bytes: u64) {
        let now = Instant::now();
        let running = Running { started: now, said: now, bytes: 0, expected: expected_bytes, stage: "" };
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), running);
        tracing::debug!(tenant.name = %tenant, expected_bytes, "{tenant}: begins");
    }

    fn advanced(&self, tenant: &TenantName, bytes: u64) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = tenants.get_mut(tenant) else { return };
        running.bytes += bytes;
        if running.said.elapsed() < EVERY {
            return;
        }
        running.said = Instant::now();
        let done = BinaryBytes(running.bytes);
        let of = if running.expected > 0 { format!(" of about {}", BinaryBytes(running.expected)) } else { String::new() };
        tracing::info!(tenant.name = %tenant, stage = running.stage, done_bytes = running.bytes, "{tenant}: {} {done}{of}", running.stage);
    }

    fn stage(&self, tenant: &TenantName, stage: &'static str) {
        if let Some(running) = self.tenants.lock().unwrap_or_else(PoisonError::into_inner).get_mut(tenant) {
            running.stage = stage;
        }
        tracing::debug!(tenant.name = %tenant, stage, "{tenant}: {stage}");
    }

    fn tenant_put_off(&self, tenant: &TenantName) {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).remove(tenant);
        tracing::debug!(tenant.name = %tenant, "{tenant}: another run is at it; it is looked at again");
    }

    fn tenant_finished(&self, tenant: &TenantName, outcome: &str) {
        let running = self.tenants.lock().unwrap_or_else(PoisonError::into_inner).remove(tenant);
        let took = running.as_ref().map_or(Duration::ZERO, |running| running.started.elapsed());
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let in_time =
            if took < Duration::from_secs(60) { format!("{:.1} s", took.as_secs_f64()) } else { HumanDuration(took).to_string() };
        tracing::info!(tenant.name = %tenant, outcome, duration_ms, "{tenant}: {outcome} in {in_time}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_parse() {
        for template in [TENANT, UNKNOWN, TOTAL, TOTAL_UNKNOWN] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
