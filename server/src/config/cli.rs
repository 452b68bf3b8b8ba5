//! The command line, made from the table of settings.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::settings::{CONFIG_FLAG, Group, SETTINGS, Setting};

/// What the process is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// Run the broker, with these flags and their values.
    Serve(Vec<(String, String)>),
    /// Print the documentation of all settings.
    Config,
    /// Print what of Kafka's protocol is served.
    Compatibility,
}

/// The parser. Its long help (`--help`) has every setting, the short one (`-h`) those of [`Group::Broker`].
#[must_use]
pub fn command() -> Command {
    let file = Arg::new(CONFIG_FLAG)
        .long(CONFIG_FLAG)
        .value_name("PATH")
        .help("A file of settings in the syntax of Kafka's server.properties")
        .help_heading(Group::Broker.title())
        .action(ArgAction::Set)
        .global(true);
    Command::new("weir")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Kafka-protocol broker on io_uring")
        .after_help("The command line wins over the environment (WEIR_…), which wins over the file.")
        .subcommand(Command::new("serve").about("Run the broker (the default)"))
        .subcommand(Command::new("config").about("Print all settings with their defaults, as Markdown"))
        .subcommand(Command::new("compatibility").about("Print which APIs and versions are served, as Markdown"))
        .arg(file)
        .args(SETTINGS.iter().map(argument))
}

/// Sorts out what was parsed.
#[must_use]
pub fn invocation(matches: &ArgMatches) -> Invocation {
    // Global flags are visible in the subcommand's matches wherever they stood.
    let (name, inner) = matches.subcommand().unwrap_or(("serve", matches));
    match name {
        "config" => return Invocation::Config,
        "compatibility" => return Invocation::Compatibility,
        _ => {}
    }
    let names = SETTINGS.iter().map(|setting| setting.flag.as_str()).chain([CONFIG_FLAG]);
    let value = |name: &str| inner.get_one::<String>(name).map(|value| (name.to_owned(), value.clone()));
    Invocation::Serve(names.filter_map(value).collect())
}

fn argument(setting: &'static Setting) -> Arg {
    let mut help = setting.doc.clone();
    if let Some(default) = setting.default.filter(|default| !default.is_empty()) {
        help.push_str(&format!(" [default: {default}]"));
    }
    help.push_str(&format!(" [key: {}]", setting.name));
    Arg::new(setting.flag.as_str())
        .long(setting.flag.as_str())
        .value_name(setting.value_name)
        .help(help)
        .help_heading(setting.group.title())
        .hide_short_help(setting.group != Group::Broker)
        .allow_hyphen_values(true)
        .action(ArgAction::Set)
        .global(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Invocation, clap::Error> {
        command().try_get_matches_from(arguments).map(|matches| invocation(&matches))
    }

    fn serve(flags: &[(&str, &str)]) -> Invocation {
        Invocation::Serve(flags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn the_parser_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn serve_is_the_default() {
        assert_eq!(parse(&["weir"]).unwrap(), serve(&[]));
        let expected = serve(&[("listen", "127.0.0.1:0"), ("data-dir", "/x"), ("config", "c")]);
        for arguments in [
            &["weir", "--config", "c", "--listen", "127.0.0.1:0", "--data-dir=/x"][..],
            &["weir", "serve", "--config", "c", "--listen", "127.0.0.1:0", "--data-dir=/x"],
            &["weir", "--config", "c", "serve", "--listen", "127.0.0.1:0", "--data-dir=/x"],
        ] {
            assert_eq!(parse(arguments).unwrap(), expected, "{arguments:?}");
        }
        assert_eq!(parse(&["weir", "config"]).unwrap(), Invocation::Config);
        assert_eq!(parse(&["weir", "compatibility"]).unwrap(), Invocation::Compatibility);
        assert_eq!(parse(&["weir", "--log-retention-ms", "-1"]).unwrap(), serve(&[("log-retention-ms", "-1")]));
    }

    #[test]
    fn unknown_flags_are_named() {
        let error = parse(&["weir", "--date-dir", "/x"]).unwrap_err().to_string();
        assert!(error.contains("--date-dir") && error.contains("--data-dir"), "{error}");
    }
}
