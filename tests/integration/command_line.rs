//! Help, refusals and exact messages, as files in `tests/cli/`. `TRYCMD=overwrite cargo test command_line` writes them anew.

#[test]
fn help_and_refusals_are_as_written() {
    trycmd::TestCases::new().env("COLUMNS", "100").env("TENURE_CONFIG", "").env("NO_COLOR", "1").case("tests/cli/*.trycmd");
}
