//! Charts as they stand in a page: vector drawings without scripts, that say in words what they say in shapes.

use maud::{Markup, html};

/// One bar.
pub(super) struct Bar {
    /// Whose.
    pub(super) label: String,
    /// How long.
    pub(super) value: u64,
    /// Whether somebody has to look at it.
    pub(super) is_bad: bool,
}

/// Width of a drawing, in its own units.
const WIDTH: f64 = 640.0;
/// Where bars begin: labels stand before them.
const LABELS: f64 = 170.0;
/// Where bars end at most: values stand after them.
const VALUES: f64 = 90.0;
/// Height of one bar with its gap.
const ROW: f64 = 16.0;
/// Letters of a label that fit before the bars.
const LETTERS: usize = 26;
/// Steps of a spread at most.
const STEPS: u32 = 24;

/// One strip, divided by how many are what; the words stand below it.
pub(super) fn shares(shares: &[(&'static str, &'static str, u64)]) -> Markup {
    let all: u64 = shares.iter().map(|(.., n)| n).sum();
    let mut from = 0.0;
    let parts = shares.iter().map(|(word, class, n)| {
        // Whoever is one of a thousand is seen too.
        let width = (WIDTH * ratio(*n, all)).max(3.0);
        let part = (from, width, *word, *class, *n);
        from += width;
        part
    });
    let parts: Vec<_> = parts.collect();
    let total = from.max(1.0);
    html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} 30")) role="img" {
            @for (from, width, word, class, n) in &parts {
                rect class=(format!("of-{class}")) x=(fixed(from * WIDTH / total)) y="2" width=(fixed(width * WIDTH / total)) height="26" {
                    title { (n) " " (word) }
                }
            }
        }
        p.legend { @for (.., word, class, n) in &parts { span { i class=(format!("of-{class}")) {} (n) " " (word) } " " } }
    }
}

/// Bars with their labels and values.
pub(super) fn bars(bars: &[Bar], show: fn(u64) -> String) -> Markup {
    let most = bars.iter().map(|bar| bar.value).max().unwrap_or(0).max(1);
    let room = WIDTH - LABELS - VALUES;
    let rows = || bars.iter().enumerate().map(|(n, bar)| (at(n) * ROW, bar, room * ratio(bar.value, most)));
    html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {}", at(bars.len()) * ROW)) role="img" {
            @for (y, bar, width) in rows() {
                text x=(LABELS - 6.0) y=(y + 12.0) text-anchor="end" { (short(&bar.label)) title { (bar.label) } }
                rect class=(if bar.is_bad { "of-failed" } else { "of-done" }) x=(LABELS) y=(y + 3.0) width=(fixed(width.max(1.0))) height=(ROW - 5.0) {}
                text x=(fixed(LABELS + width.max(1.0) + 5.0)) y=(y + 12.0) { (show(bar.value)) @if bar.is_bad { " !" } }
            }
        }
    }
}

/// How many are how large, in steps that double: it stays readable with thousands.
pub(super) fn spread(bars: &[Bar], show: fn(u64) -> String) -> Markup {
    let step = |value: u64| value.checked_ilog2().map_or(0, |log| log + 1);
    let (first, last) = bars.iter().map(|bar| step(bar.value)).fold((u32::MAX, 0), |(a, b), n| (a.min(n), b.max(n)));
    // Wider than that everything smaller stands in the first.
    let first = first.max(last.saturating_sub(STEPS - 1));
    let mut counts = vec![0u64; (last - first.min(last)) as usize + 1];
    for bar in bars {
        counts[step(bar.value).saturating_sub(first) as usize] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    // The last label begins under the last bar.
    let width = (WIDTH - 36.0) / at(counts.len());
    let height = 90.0;
    let lowest = |n: usize| match first.saturating_add(u32::try_from(n).unwrap_or(u32::MAX)) {
        0 => 0,
        step => 1u64.checked_shl(step - 1).unwrap_or(u64::MAX),
    };
    // Labels that would run into each other are left out.
    let every = counts.len().div_ceil(8);
    html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {}", height + 34.0)) role="img" {
            @for (n, count) in counts.iter().enumerate() {
                @let tall = height * ratio(*count, most);
                rect.of-done x=(fixed(at(n) * width + 1.0)) y=(fixed(14.0 + height - tall)) width=(fixed(width - 2.0)) height=(fixed(tall)) {
                    title { (count) " from " (show(lowest(n))) }
                }
                @if *count > 0 { text x=(fixed((at(n) + 0.5) * width)) y=(fixed(11.0 + height - tall)) text-anchor="middle" { (count) } }
                @if n % every == 0 { text.axis x=(fixed(at(n) * width + 1.0)) y=(height + 28.0) { (show(lowest(n))) } }
            }
        }
    }
}

fn short(label: &str) -> String {
    match label.chars().count() > LETTERS {
        true => label.chars().take(LETTERS - 1).chain(['…']).collect(),
        false => label.to_owned(),
    }
}

#[allow(clippy::cast_precision_loss, reason = "a drawing is not that exact")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[allow(clippy::cast_precision_loss, reason = "a drawing has no so many rows")]
fn at(n: usize) -> f64 {
    n as f64
}

fn fixed(n: f64) -> String {
    format!("{n:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(value: u64) -> Bar {
        Bar { label: format!("<{value}>"), value, is_bad: false }
    }

    #[test]
    fn every_size_has_its_place_and_every_label_is_text() {
        let all: Vec<Bar> = [0, 1, 1023, 1024, u64::MAX].map(bar).into();
        let text = spread(&all, |n| n.to_string()).into_string();
        assert_eq!(text.matches("<rect").count(), STEPS as usize);
        assert!(text.contains(">4<") && text.contains(">1<"), "{text}");
        let text = bars(&all, |n| n.to_string()).into_string();
        assert!(text.contains("&lt;1023&gt;") && !text.contains("<1023>"), "{text}");
        let text = shares(&[("done", "done", 999), ("failed", "failed", 1)]).into_string();
        assert!(text.contains("1 failed") && text.matches("<rect").count() == 2, "{text}");
    }
}
