//! The documentation of all settings, made from the tables. `weir config` prints it, and `docs/configuration.md` is
//! the same text.

use std::fmt::Write;

use super::consumer_groups::GROUP_CONFIGS;
use super::kafka_keys::{NO_EFFECT, REFUSED};
use super::kind::Kind;
use super::settings::{SETTINGS, Setting};
use super::topic::{Effect, TOPIC_CONFIGS};

/// The whole page, as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(INTRODUCTION);
    let mut group = None;
    for setting in SETTINGS.iter() {
        if group != Some(setting.group) {
            group = Some(setting.group);
            let _ = write!(out, "\n## {}\n\n", setting.group.title());
            out.push_str("| key | flag | type | default | what it does |\n| --- | --- | --- | --- | --- |\n");
        }
        let _ = writeln!(out, "{}", row(setting));
    }
    out.push_str(TOPICS);
    for config in TOPIC_CONFIGS {
        let default = config.default.unwrap_or_default();
        let doc = match config.effect {
            Effect::Applied => config.doc.to_owned(),
            Effect::Stored(why) => format!("{} *Changes nothing: {why}.*", config.doc),
            Effect::Internal => continue,
        };
        let server = config.server.first().map_or_else(String::new, |synonym| format!("`{}`", synonym.key));
        let kind = kind(&config.kind);
        let _ = writeln!(out, "| `{}` | {kind} | {} | {server} | {doc} |", config.name, code(default));
    }
    out.push_str(GROUPS);
    for config in GROUP_CONFIGS {
        let _ = writeln!(out, "| `{}` | {} | `{}` | {} |", config.name, kind(&config.kind), config.broker, config.doc);
    }
    out.push_str(LOGGERS);
    out.push_str("\n## Keys of Kafka that are refused\n\n| key | why |\n| --- | --- |\n");
    for refusal in REFUSED {
        let _ = writeln!(out, "| `{}` | {} |", refusal.key, refusal.why);
    }
    out.push_str(
        "\nA value that asks for nothing, such as an empty one, is accepted.\n\n\
         ## Keys of Kafka without effect\n\n\
         A file may have them. One line of the log names those that it has.\n\n",
    );
    for key in NO_EFFECT {
        let _ = writeln!(out, "- `{key}`");
    }
    out
}

const INTRODUCTION: &str = "\
# Configuration

`weir config` prints this page; it is made from the table that the broker itself uses.

A setting is given by a flag, by a variable of the environment or by a line of the file that `--config PATH` or
`WEIR_CONFIG` names. The command line wins over the environment, which wins over the file. The variable has the name of
the flag: `WEIR_DATA_DIR` for `--data-dir`. The file has the syntax and, wherever Kafka has one, the keys of Kafka's
`server.properties`. Where one duration has keys of several units, the place that wins is asked first and then the
finest unit.

Unknown flags, variables and keys are errors. A setting marked with † may be changed while the broker runs
(`kafka-configs --entity-type brokers`): that takes effect at once, is kept over a restart, and wins over all of the above
until it is deleted. Of the settings below that Kafka can change so, `listeners` and `listener.security.protocol.map` are fixed
here at the start and refused, and so are keys without effect.
";

const TOPICS: &str = "
## Topic configurations

Given when a topic is created, or later (`kafka-configs --entity-type topics`). Every key that Kafka 4.3 knows is
checked, stored and returned as Kafka does. The broker key is the setting above that gives the default.

| key | type | default | broker key | what it does |
| --- | --- | --- | --- | --- |
";

const GROUPS: &str = "
## Configurations of groups

Given to one group of the consumer protocol (`kafka-configs --entity-type groups`), which need not exist yet. The broker key
is the setting above that counts otherwise; those with `min.` and `max.` in it are the bounds. A lower or higher bound after a
restart confines what was set before. A session timeout counts from a member's next heartbeat on.

| key | type | broker key | what it does |
| --- | --- | --- | --- |
";

const LOGGERS: &str = "
## Levels of loggers

`kafka-configs --entity-type broker-loggers` shows the parts of the broker that write to its log, and changes how much each
says, from FATAL (nothing) to TRACE. It takes effect at once and is not kept over a restart. `root` is all that have no level
of their own; it begins with `log.level`.
";

fn row(setting: &Setting) -> String {
    let aliases: String = setting.aliases.iter().map(|alias| format!(", `{alias}`")).collect();
    let dynamic = if setting.dynamic { " †" } else { "" };
    let (name, flag, kind, doc) = (setting.name, &setting.flag, kind(&setting.kind), &setting.doc);
    let default = code(setting.default.unwrap_or_default());
    format!("| `{name}`{dynamic}{aliases} | `--{flag}` | {kind} | {default} | {doc} |")
}

fn kind(kind: &Kind) -> String {
    match kind.bounds() {
        bounds if bounds.is_empty() => kind.type_name().to_owned(),
        bounds => format!("{}: {bounds}", kind.type_name()),
    }
}

fn code(value: &str) -> String {
    if value.is_empty() { String::new() } else { format!("`{value}`") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// To bring the page up to date: `cargo run -- config > docs/configuration.md`.
    #[test]
    fn the_page_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            page == markdown(),
            "docs/configuration.md is out of date: cargo run -- config > docs/configuration.md"
        );
    }
}
