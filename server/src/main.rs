//! The broker's program: settings, log, data directory, broker, exit code.

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;

use server::broker;
use server::compatibility;
use server::config::load::load;
use server::config::options::Options;
use server::config::{cli, docs};
use server::data_dir::{DataDir, Wanted};
use server::exit::Exit;
use server::loggers::{Level, Loggers};
use server::machine;
use tracing::{error, info};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, reload};

fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    let exit = match cli::invocation(&matches) {
        cli::Invocation::Config => print(&docs::markdown()),
        cli::Invocation::Compatibility => print(&compatibility::markdown()),
        cli::Invocation::Serve(flags) => serve(&flags),
    };
    ExitCode::from(exit.code())
}

fn print(page: &str) -> Exit {
    match stdio::print(page) {
        Ok(()) => Exit::Clean,
        Err(error) => refuse(&format!("cannot write to standard output: {error}"), Exit::Other),
    }
}

fn serve(flags: &[(String, String)]) -> Exit {
    let options = match load(flags, std::env::vars_os()) {
        Ok(loaded) => Options::new(loaded, &machine::inspect()),
        Err(error) => return refuse(&error, Exit::from(&error)),
    };
    let options = match options {
        Ok(options) => options,
        Err(error) => return refuse(&error, Exit::from(&error)),
    };
    let loggers = start_log(&options.log_level);
    for note in &options.notes {
        info!("{note}");
    }
    let files = machine::raise_file_limit();
    let wanted = Wanted { node_id: options.node_id, cluster_id: options.cluster_id };
    let data = match DataDir::open(&options.data_dir, &wanted, machine::random) {
        Ok(data) => data,
        Err(error) => return fail(&error, Exit::from(&error)),
    };
    info!(
        "Weir {}: node {} of cluster {}, {} in {}",
        env!("CARGO_PKG_VERSION"),
        data.identity.node_id,
        data.identity.cluster_id,
        if data.is_new { "new data directory" } else { "data" },
        data.path.display()
    );
    info!(
        "durability={}, {} core(s): {:?}, memory up to {} MiB, up to {files} open files",
        options.durability,
        options.cores.len(),
        options.cores,
        options.memory_bytes >> 20
    );
    match broker::run(&options, &data, &loggers) {
        Ok(()) => Exit::Clean,
        Err(error) => fail(&error, Exit::from(&error)),
    }
}

/// Writes what happens to standard error, one line each.
fn start_log(level: &str) -> Arc<Loggers> {
    // The table allows no other words.
    let level = Level::of_name(&level.to_ascii_uppercase()).unwrap_or(Level::Info);
    let (filter, in_force) = reload::Layer::new(Targets::new());
    let lines = fmt::layer().with_target(false).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(lines).init();
    // It fails only where there is no log any more.
    Loggers::new(level, move |levels| drop(in_force.reload(levels)))
}

/// Says why nothing is done, before there is a log.
fn refuse(error: &dyn Display, exit: Exit) -> Exit {
    stdio::say(&format!("weir: {error}\n"));
    exit
}

fn fail(error: &dyn Display, exit: Exit) -> Exit {
    error!("{error}");
    exit
}
