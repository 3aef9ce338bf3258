//! A document changed in a few places, and the loop that hands such documents to a parser. Built on proptest, so that what fails is
//! shrunk to the fewest changes that still fail.

use std::cell::Cell;

use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, RngAlgorithm, RngSeed, TestCaseError, TestError, TestRng, TestRunner},
};
use serde_json::Value;

/// What parsers trip over: the ends of number ranges, calendars and encodings, and the characters that mean something to them.
const TOKENS: &[&str] = &[
    "18446744073709551615",
    "9223372036854775808",
    "4294967296",
    "4194305",
    "-1",
    "0",
    "1e999",
    "9999 years",
    "9999 weeks",
    "+262142-12-31T23:59:59.999999999Z",
    "-262143-01-01T00:00:00Z",
    "2026-02-30",
    "23:59:60",
    "+14:00",
    "null",
    "true",
    "\0",
    "\u{202e}",
    "é",
    "🦀",
    "\u{feff}",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    "'",
    "\\",
    "\\u0000",
    "\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "=",
    ":",
    "/",
    "..",
    "//",
    "@",
    "%",
    "%00",
    "%ff",
    "#",
    "*",
    "?",
    "AGE-SECRET-KEY-1",
    "age1",
    "-----",
    "format",
    "{tenant}",
];

#[derive(Debug, Clone)]
enum Change {
    /// A digit becomes another one: of ten, or of the sixteen in lower case where it was a letter.
    Digit(Index, u8),
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, &'static str),
    Remove(Index, u8),
    Repeat(Index, u8, Index),
    Cut(Index),
    /// In a JSON document: one value becomes another.
    Value(Index, &'static str),
    /// In a JSON document: one member or element goes, or stands there twice.
    Member(Index, bool),
}

/// Changes after which a document is most likely still one, and says something else.
fn gentle() -> impl Strategy<Value = Change> {
    (any::<Index>(), any::<u8>()).prop_map(|(at, digit)| Change::Digit(at, digit))
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let token = || prop::sample::select(TOKENS);
    prop_oneof![
        3 => (at(), 0..8u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        2 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        4 => (at(), token()).prop_map(|(at, token)| Change::Insert(at, token)),
        3 => (at(), 1..40u8).prop_map(|(at, length)| Change::Remove(at, length)),
        2 => (at(), 1..200u8, at()).prop_map(|(from, length, to)| Change::Repeat(from, length, to)),
        1 => at().prop_map(Change::Cut),
        6 => (at(), token()).prop_map(|(at, token)| Change::Value(at, token)),
        2 => (at(), any::<bool>()).prop_map(|(at, twice)| Change::Member(at, twice)),
    ]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
        match self {
            Self::Digit(at, digit) => {
                let mut digits = bytes.iter_mut().filter(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).collect::<Vec<_>>();
                if !digits.is_empty() {
                    let at = at.index(digits.len());
                    let (first, last) = if digits[at].is_ascii_digit() { (b'0', b'9') } else { (b'a', b'f') };
                    *digits[at] = first + digit % (last - first + 1);
                }
            }
            Self::Flip(at, bit) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Self::Set(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Self::Insert(at, token) => {
                let at = place(at, bytes);
                bytes.splice(at..at, token.bytes());
            }
            Self::Remove(at, length) => {
                let at = place(at, bytes);
                bytes.drain(at..bytes.len().min(at + usize::from(*length)));
            }
            Self::Repeat(from, length, to) => {
                let (from, to) = (place(from, bytes), place(to, bytes));
                let copy = bytes[from..bytes.len().min(from + usize::from(*length))].to_vec();
                bytes.splice(to..to, copy);
            }
            Self::Cut(at) => bytes.truncate(place(at, bytes)),
            Self::Value(at, token) => in_json(bytes, at, |value| {
                *value = serde_json::from_str(token).unwrap_or_else(|_| Value::from(*token));
            }),
            Self::Member(at, twice) => in_json(bytes, at, |value| match value {
                Value::Object(members) => {
                    let key = members.keys().next().cloned();
                    key.and_then(|key| members.remove(&key));
                }
                Value::Array(elements) if *twice => elements.extend(elements.first().cloned()),
                Value::Array(elements) => drop(elements.pop()),
                _ => *value = Value::Null,
            }),
            _ => {}
        }
    }
}

/// Changes one value of a JSON document, wherever it lies; other bytes stay as they are.
fn in_json(bytes: &mut Vec<u8>, at: &Index, change: impl FnOnce(&mut Value)) {
    fn nth<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
        if *left == 0 {
            return Some(value);
        }
        *left -= 1;
        match value {
            Value::Object(members) => members.values_mut().find_map(|value| nth(value, left)),
            Value::Array(elements) => elements.iter_mut().find_map(|value| nth(value, left)),
            _ => None,
        }
    }
    fn count(value: &Value) -> usize {
        1 + match value {
            Value::Object(members) => members.values().map(count).sum(),
            Value::Array(elements) => elements.iter().map(count).sum(),
            _ => 0,
        }
    }
    let Ok(mut document) = serde_json::from_slice::<Value>(bytes) else { return };
    let mut left = at.index(count(&document));
    if let Some(value) = nth(&mut document, &mut left) {
        change(value);
        *bytes = document.to_string().into_bytes();
    }
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// Gives `test` every document of `corpus` as it is, then `cases` changed ones. It says of each whether it got past the parser's first
/// look: when hardly any does, what lies behind that is not tried at all.
#[allow(clippy::print_stdout, reason = "`--nocapture` shows how deep a target reaches")]
pub fn each(name: &str, cases: u32, corpus: &[Vec<u8>], test: impl Fn(&[u8]) -> bool) {
    assert!(corpus.iter().any(|document| test(document)), "{name}: nothing gets past the first look");
    let (tried, deep) = (Cell::new(0_u32), Cell::new(0_u32));
    let changes = prop_oneof![1 => prop::collection::vec(gentle(), 1..4), 2 => prop::collection::vec(change(), 1..6)];
    let changed = (prop::sample::select(corpus.to_vec()), changes).prop_map(|(mut document, changes)| {
        changes.iter().for_each(|change| change.apply(&mut document));
        document
    });
    run(name, cases, &changed, |document| {
        tried.set(tried.get() + 1);
        deep.set(deep.get() + u32::from(test(document)));
    });
    println!("{name}: {} of {} got past the first look", deep.get(), tried.get());
    assert!(deep.get() >= tried.get() / 40, "{name}: only {} of {} got past the first look", deep.get(), tried.get());
}

/// Gives `test` every text of `corpus` as it is, then changed ones as far as they are UTF-8.
pub fn each_text(name: &str, cases: u32, corpus: &[&str], test: impl Fn(&str) -> bool) {
    let corpus: Vec<Vec<u8>> = corpus.iter().map(|text| text.as_bytes().to_vec()).collect();
    each(name, cases, &corpus, |bytes| test(&String::from_utf8_lossy(bytes)));
}

/// Draws values and gives them to `test`; says how to repeat what fails.
pub fn run<S: Strategy>(name: &str, cases: u32, strategy: &S, test: impl Fn(&S::Value)) {
    let seed: u64 = setting("FUZZ_SEED").unwrap_or(1);
    let cases = setting("FUZZ_CASES").unwrap_or(cases);
    let config =
        Config { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), max_shrink_iters: 2_000, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let outcome = runner.run(strategy, |value| {
        test(&value);
        Ok::<_, TestCaseError>(())
    });
    if let Err(TestError::Fail(reason, value)) = outcome {
        panic!(
            "{name}: {reason}\nwith {}\nagain: FUZZ_SEED={seed} FUZZ_CASES={cases} cargo test --test integration fuzz::{name}",
            shown(&format!("{value:?}"))
        );
    }
    outcome.map_err(|error| error.to_string()).unwrap();
}

/// A vector of bytes as text, where it is one.
fn shown(debug: &str) -> String {
    let bytes: Option<Vec<u8>> = debug
        .strip_prefix('[')
        .and_then(|list| list.strip_suffix(']'))
        .and_then(|list| list.split(", ").map(|byte| byte.parse().ok()).collect());
    bytes.map_or_else(|| debug.to_owned(), |bytes| format!("\"{}\"", bytes.escape_ascii()))
}

#[test]
#[should_panic(expected = " cargo test --test integration fuzz::mutate")]
fn mutate_finds_a_panic_and_says_how_to_repeat_it() {
    each_text("mutate", 500, &["{\"n\":1}"], |text| {
        assert!(!text.contains("18446744073709551615"), "too large");
        true
    });
}
