//! The `tenure` program.

use std::{process::ExitCode, time::Duration};

use tenure::{
    cli::{self, Cli, edge::Edge, output::Output, process},
    observe::{log, screen::Screen},
};

fn main() -> ExitCode {
    process::harden();
    let cli = match Cli::from_args(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let output = Output::new(&cli.global);
    let screen = Screen::new(&cli.global);
    log::start(&cli.global, screen.clone(), std::env::var("TENURE_LOG").ok().as_deref());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output.fail(&process::no_runtime(error)),
    };
    let code = runtime.block_on(async {
        let signals = match process::Signals::listen() {
            Ok(signals) => signals,
            Err(error) => return output.fail(&process::no_runtime(error)),
        };
        let edge = Edge::new(cli.global, output, screen, signals.stop());
        let ended = cli::run(cli.command, &edge).await;
        edge.finish(signals.judge(ended))
    });
    // A blocking call that hangs, a name look-up for instance, must not keep a finished program alive.
    runtime.shutdown_timeout(Duration::from_secs(2));
    code
}
