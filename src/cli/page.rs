//! Pages that are printed, or sent to somebody: one HTML file each, with nothing that is fetched from anywhere.

pub(super) mod certificate;
mod chart;
pub(super) mod night;

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// For paper of any size, in black on white too: what a colour says a word says as well.
const STYLE: &str = include_str!("page/style.css");

/// A whole page. Whatever comes in as text is escaped by `html!`; the policy keeps a browser from fetching and running anything all the same.
fn page(title: &str, body: &Markup) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    markup.into_string()
}

/// A table of what belongs together in lines: what it is, and what is said of it.
fn facts<'a>(rows: impl IntoIterator<Item = (&'a str, Markup)>) -> Markup {
    html! {
        table.facts {
            @for (what, value) in rows { tr { th scope="row" { (what) } td { (value) } } }
        }
    }
}

/// A table with a header.
fn rows<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [Markup; N]>) -> Markup {
    html! {
        table.rows {
            thead { tr { @for cell in header { th scope="col" { (cell) } } } }
            tbody { @for row in rows { tr { @for cell in row { td { (cell) } } } } }
        }
    }
}

/// What somebody may copy: ids, digests, addresses, commands.
fn code(text: impl std::fmt::Display) -> Markup {
    html! { code { (text.to_string()) } }
}
