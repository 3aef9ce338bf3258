//! Standard error, shared by logs and progress bars so that neither tears the other apart.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{MultiProgress, ProgressDrawTarget};

use crate::cli::global::Global;

/// Standard error. Cheap to clone; all clones are the same screen.
#[derive(Clone)]
pub struct Screen {
    bars: MultiProgress,
    /// Whether bars are drawn.
    pub has_bars: bool,
    /// Whether it is a terminal.
    pub is_terminal: bool,
}

impl Screen {
    /// Bars are drawn on a terminal only, and only when nobody asked for quiet, JSON logs or `--no-progress`.
    #[must_use]
    pub fn new(global: &Global) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let has_bars = is_terminal && !global.no_progress && !global.quiet && !global.has_json_logs();
        let target = if has_bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), has_bars, is_terminal }
    }

    /// The bars.
    #[must_use]
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Writes whole lines, above the bars.
    ///
    /// # Errors
    /// When standard error cannot be written to.
    pub fn write(&self, lines: &[u8]) -> std::io::Result<()> {
        let write = || std::io::stderr().lock().write_all(lines);
        if self.has_bars { self.bars.suspend(write) } else { write() }
    }
}
