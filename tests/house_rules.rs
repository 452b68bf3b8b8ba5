//! The rules of this repository that a program can check. They run with every `cargo test`.
//!
//! A rule that has to give way gets an entry with a reason in the table that it reads, or it is changed here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Lines that a source file may have without its tests.
const LINE_BUDGET: usize = 800;

/// Files over the budget, with the lines that they may keep. Entries only shrink.
const OVER_BUDGET: &[(&str, usize)] = &[];

/// Which of ours the crates may depend on. The load generator must not share the scheduler that it measures. A crate that
/// is not named may depend on all but the server, on which nothing depends.
const CRATES: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("engine", &["wire"]),
    ("stdio", &[]),
    ("server", &["engine", "wire", "stdio"]),
    ("loadgen", &["wire", "stdio"]),
    ("benches/compare", &["wire", "loadgen", "stdio"]),
];

/// The modules of the engine from the top down: a group may use itself and what stands below it.
const ENGINE_LAYERS: &[&[&str]] = &[
    &[
        "store",
        "commit",
        "spares",
        "gather",
        "direct",
        "join",
        "lifecycle",
        "checkpoint",
        "recovery",
        "retention",
        "compaction",
        "read",
        "markers",
        "journal_files",
        "journal_reader",
        "partition",
    ],
    &["log", "segment", "journal", "producer", "transactions", "index"],
    &["mailbox", "reactor", "io"],
    &["cache", "limits"],
];

/// The modules of the server, as [`ENGINE_LAYERS`]. The data path of one core is one group: a share of the broker holds its
/// connections and the state of its handlers, and both reach the router and other shares through it.
const SERVER_LAYERS: &[&[&str]] = &[
    &["exit"],
    &["broker"],
    &["assembly", "listener", "compatibility"],
    &[
        "connection",
        "api",
        "handlers",
        "router",
        "shard",
        "disk",
        "controller",
        "services",
        "markers",
        "coordinator",
        "transaction",
    ],
    &["group"],
    &["state_machine"],
    &["data_dir", "machine", "signals"],
    &["catalog", "image", "features"],
    &["config", "frame", "hash", "loggers", "pattern"],
];

/// Where the engine may touch the world: files, sockets, clocks, threads and randomness pass through the seam, so that
/// everything else runs under the simulator. What touches memory ahead of need is left out there.
const ENGINE_SEAM: &[&str] = &["engine/src/io/", "engine/src/reactor", "engine/src/cache/ahead.rs"];

/// What only the seam may name.
const WORLD: &[&str] = &["std::fs", "std::net", "std::thread", "Instant::now", "SystemTime::now", "std::process"];

/// Calls that no finished code makes: in tests neither.
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "dbg!("];

/// The programs and what they are made of.
const PROGRAMS: &[&str] = &["wire/src", "engine/src", "server/src", "loadgen/src", "benches/compare/src"];

/// Calls that the libraries and the broker do not make outside tests, with the directories that they are banned from.
const BANNED: &[(&str, &[&str])] = &[
    (".unwrap()", &["wire/src", "engine/src", "server/src"]),
    ("thread::sleep", &["wire/src", "engine/src", "server/src"]),
    // A program that must not end with its reader writes through `stdio`.
    ("print!(", PROGRAMS),
    ("println!(", PROGRAMS),
    ("eprint!(", PROGRAMS),
    ("eprintln!(", PROGRAMS),
    ("process::abort", &["wire/src", "engine/src", "server/src"]),
    ("process::exit", &["wire/src", "engine/src"]),
];

/// Files that may make a banned call: the start-up runs before there is a reactor to wait in.
const EXCEPTIONS: &[(&str, &str)] = &[("server/src/broker.rs", "thread::sleep")];

/// Files that may hold `unsafe` blocks.
const UNSAFE: &[&str] = &["engine/src/cache", "engine/src/io/", "engine/src/mailbox", "engine/src/reactor"];

/// Words that promise a later change.
const PROMISES: &[&str] = &["TODO", "FIXME", "XXX", "HACK", "for now"];

/// Places of one machine: hosts of package registries, which every user configures for themselves, and build directories.
const PLACES: &[&str] = &[
    "/work/",
    "registry.npmjs.org",
    "pypi.org",
    "files.pythonhosted.org",
    "repo.maven.apache.org",
    "repo1.maven.org",
    "proxy.golang.org",
    "sum.golang.org",
    "deb.debian.org",
];

#[test]
fn crates_depend_downwards_only() {
    let members = members();
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let ours: BTreeSet<String> = members.iter().map(|path| name(path)).collect();
    let mut broken = Vec::new();
    for path in &members {
        let allowed = CRATES.iter().find(|(known, _)| known == path).map(|(_, allowed)| *allowed);
        let manifest = manifest(path);
        let Some(dependencies) = manifest.get("dependencies").and_then(toml::Value::as_table) else { continue };
        for used in dependencies.keys().filter(|used| ours.contains(*used)) {
            if !allowed.map_or(used != "server", |allowed| allowed.contains(&used.as_str())) {
                broken.push(format!("{path} depends on {used}"));
            }
        }
    }
    assert_none("dependencies against the direction of the design", &broken);
}

#[test]
fn modules_use_what_is_below_them_only() {
    let mut broken = upward_uses("engine/src", ENGINE_LAYERS);
    broken.extend(upward_uses("server/src", SERVER_LAYERS));
    assert_none("uses against the direction of the design", &broken);
}

#[test]
fn files_stay_within_the_budget() {
    let sources = Sources::read();
    let mut broken = Vec::new();
    for file in &sources.rust {
        let lines = if file.is_test { 0 } else { file.code_without_tests().lines().count() };
        let budget = OVER_BUDGET.iter().find(|(path, _)| *path == file.path).map_or(LINE_BUDGET, |(_, lines)| *lines);
        if lines > budget {
            broken.push(format!("{}: {lines} lines, {budget} allowed", file.path));
        }
    }
    for (path, lines) in OVER_BUDGET {
        let file = sources.rust.iter().find(|file| file.path == *path);
        let needed = file.map_or(0, |file| file.code_without_tests().lines().count());
        if needed < *lines {
            broken.push(format!("{path} needs {needed} lines: its entry in OVER_BUDGET is to be lowered or removed"));
        }
    }
    assert_none("files over the budget: split them", &broken);
}

#[test]
fn nothing_is_unfinished() {
    let mut broken = Vec::new();
    for file in Sources::read().rust.iter().filter(|file| file.path != THIS_FILE) {
        for (number, line) in file.code.lines().enumerate() {
            for call in UNFINISHED.iter().filter(|call| contains_word(line, call)) {
                broken.push(format!("{}:{}: {call}", file.path, number + 1));
            }
        }
    }
    for (path, text) in texts() {
        for (number, line) in text.lines().enumerate() {
            for promise in PROMISES.iter().filter(|promise| contains_word(line, promise)) {
                broken.push(format!("{path}:{}: {promise}", number + 1));
            }
        }
    }
    assert_none("promises of a later change: do it, or open an issue and leave it out", &broken);
}

#[test]
fn banned_calls_stay_out() {
    let mut broken = Vec::new();
    for file in Sources::read().rust.iter().filter(|file| !file.is_test) {
        let seam = !file.path.starts_with("engine/src") || ENGINE_SEAM.iter().any(|seam| file.path.starts_with(seam));
        let may_be_unsafe = UNSAFE.iter().any(|path| file.path.starts_with(path));
        for (number, line) in file.code_without_tests().lines().enumerate() {
            let place = format!("{}:{}", file.path, number + 1);
            for (call, dirs) in BANNED {
                let excepted = EXCEPTIONS.contains(&(file.path.as_str(), call));
                if !excepted && dirs.iter().any(|dir| file.path.starts_with(dir)) && contains_word(line, call) {
                    broken.push(format!("{place}: {call}"));
                }
            }
            for name in WORLD.iter().filter(|name| !seam && line.contains(**name)) {
                broken.push(format!("{place}: {name} belongs behind the seam (engine/src/io)"));
            }
            if !may_be_unsafe && contains_word(line, "unsafe") && !line.contains("unsafe_code") {
                broken.push(format!("{place}: unsafe"));
            }
        }
    }
    assert_none("calls that do not belong there", &broken);
}

#[test]
fn ignored_tests_say_why() {
    let mut broken = Vec::new();
    for file in Sources::read().rust {
        for (number, line) in file.code.lines().enumerate() {
            if line.trim() == "#[ignore]" {
                broken.push(format!("{}:{}", file.path, number + 1));
            }
        }
    }
    assert_none("ignored tests without a reason", &broken);
}

#[test]
fn nothing_names_one_machine() {
    let mut broken = Vec::new();
    for (path, text) in texts() {
        for (number, line) in text.lines().enumerate() {
            for place in PLACES.iter().filter(|place| line.contains(**place)) {
                broken.push(format!("{path}:{}: {place}", number + 1));
            }
        }
    }
    assert_none("places of one machine", &broken);
}

#[test]
fn every_source_file_is_used() {
    let sources = Sources::read();
    let broken: Vec<String> = sources.dead.iter().map(|path| format!("{path}: no `mod` leads to it")).collect();
    assert_none("dead files", &broken);
}

/// A path such as `partition::append` or `Store::append` in a DESIGN.md is an item of our crates.
#[test]
fn designs_name_what_exists() {
    let sources = Sources::read();
    let mut broken = Vec::new();
    for design in ["engine/DESIGN.md", "server/DESIGN.md"] {
        let Ok(text) = std::fs::read_to_string(root().join(design)) else { continue };
        for (number, line) in text.lines().enumerate() {
            for symbol in quoted_paths(line).filter(|symbol| !exists(symbol, &sources.rust)) {
                broken.push(format!("{design}:{}: `{symbol}`", number + 1));
            }
        }
    }
    assert_none("symbols that do not exist", &broken);
}

const THIS_FILE: &str = "tests/house_rules.rs";

fn assert_none(what: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{what}:\n  {}", broken.join("\n  "));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The directories of our crates, as the workspace lists them.
fn members() -> Vec<String> {
    let workspace = manifest(".");
    let members = workspace.get("workspace").and_then(|workspace| workspace.get("members"));
    let members = members.and_then(toml::Value::as_array).expect("a workspace with members");
    members.iter().filter_map(toml::Value::as_str).map(str::to_owned).collect()
}

fn manifest(crate_dir: &str) -> toml::Table {
    let path = root().join(crate_dir).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One Rust source file.
struct Source {
    /// From the root of the repository.
    path: String,
    /// The text with comments and the contents of literals blanked out; lines stay where they are.
    code: String,
    /// Whether only tests use it.
    is_test: bool,
}

impl Source {
    /// The code up to its test module, which by custom comes last.
    fn code_without_tests(&self) -> &str {
        self.code.find("#[cfg(test)]\nmod tests {").map_or(&self.code, |end| &self.code[..end])
    }
}

/// All Rust source files that a target leads to, and those that none leads to.
struct Sources {
    rust: Vec<Source>,
    dead: Vec<String>,
}

impl Sources {
    fn read() -> Sources {
        let mut reached: BTreeMap<PathBuf, bool> = BTreeMap::new();
        for dir in members() {
            for (target, is_test) in targets(&dir) {
                follow(&target, is_test, &mut reached);
            }
        }
        let mut dead = Vec::new();
        let mut rust = Vec::new();
        for path in walk(&root()).into_iter().filter(|path| path.extension().is_some_and(|found| found == "rs")) {
            let name = relative(&path);
            match reached.get(&path) {
                Some(is_test) => rust.push(Source { code: blank(&read(&path)), is_test: *is_test, path: name }),
                None => dead.push(name),
            }
        }
        assert!(rust.len() > 20, "the sources were not found");
        Sources { rust, dead }
    }
}

/// The files that Cargo starts from in one package, and whether they are tests.
fn targets(crate_dir: &str) -> Vec<(PathBuf, bool)> {
    let dir = canonical(&root().join(crate_dir));
    let mut targets: Vec<(PathBuf, bool)> =
        ["src/lib.rs", "src/main.rs", "build.rs"].iter().map(|name| (dir.join(name), false)).collect();
    for (name, is_test) in [("src/bin", false), ("tests", true), ("benches", true), ("examples", false)] {
        let Ok(entries) = std::fs::read_dir(dir.join(name)) else { continue };
        for entry in entries.flatten() {
            // A directory is a target by its `main.rs`.
            targets.extend([entry.path(), entry.path().join("main.rs")].map(|path| (path, is_test)));
        }
    }
    let manifest = manifest(crate_dir);
    for (kind, is_test) in [("lib", false), ("bin", false), ("test", true), ("bench", true), ("example", false)] {
        let listed = match manifest.get(kind) {
            Some(toml::Value::Array(list)) => list.clone(),
            Some(one) => vec![one.clone()],
            None => Vec::new(),
        };
        for target in listed {
            if let Some(path) = target.get("path").and_then(toml::Value::as_str) {
                targets.push((canonical(&dir.join(path)), is_test));
            }
        }
    }
    targets.retain(|(path, _)| path.is_file() && path.extension().is_some_and(|found| found == "rs"));
    targets
}

/// Adds `file` and every file that its `mod` items lead to. A file that code uses as well as tests is no test file.
fn follow(file: &Path, is_test: bool, reached: &mut BTreeMap<PathBuf, bool>) {
    match reached.get(file) {
        Some(known) if !known || is_test => return,
        _ => reached.insert(file.to_owned(), is_test),
    };
    let text = read(file);
    let code = blank(&text);
    let dir = file.parent().expect("a file has a directory");
    let stem = file.file_stem().expect("a file has a name").to_string_lossy().into_owned();
    let is_root = ["mod", "lib", "main", "build"].contains(&stem.as_str()) || !dir.join(&stem).is_dir();
    let children = if is_root { dir.to_owned() } else { dir.join(&stem) };
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in code.lines().enumerate() {
        let Some(name) = declared_module(line) else { continue };
        let attributes = || lines[..number].iter().rev().take_while(|line| line.trim_start().starts_with("#["));
        let only_tests = is_test || attributes().any(|line| line.contains("cfg(test)"));
        let path = attributes().find_map(|line| line.split("path = \"").nth(1)?.split('"').next());
        let candidates = match path {
            Some(path) => vec![dir.join(path)],
            None => vec![children.join(format!("{name}.rs")), children.join(name).join("mod.rs")],
        };
        for candidate in candidates.iter().filter(|path| path.is_file()) {
            follow(&canonical(candidate), only_tests, reached);
        }
    }
}

/// The name in a line such as `pub(crate) mod name;`.
fn declared_module(line: &str) -> Option<&str> {
    let line = line.trim().strip_suffix(';')?;
    let (before, name) = line.rsplit_once("mod ")?;
    let visible = before.is_empty() || before.trim_end().ends_with("pub") || before.trim_end().ends_with(')');
    (visible && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some(name)
}

/// Uses of `crate::module` in non-test code from a module in a lower layer.
fn upward_uses(dir: &str, layers: &[&[&str]]) -> Vec<String> {
    let layer = |module: &str| layers.iter().position(|names| names.contains(&module));
    let mut broken = Vec::new();
    for file in Sources::read().rust.iter().filter(|file| !file.is_test) {
        let Some(path) = file.path.strip_prefix(dir) else { continue };
        let module = path.trim_start_matches('/').split('/').next().unwrap_or_default().trim_end_matches(".rs");
        for (number, line) in file.code_without_tests().lines().enumerate() {
            for used in crate_modules(line) {
                if layer(used).zip(layer(module)).is_some_and(|(used, user)| used < user) {
                    broken.push(format!("{}:{}: {module} uses {used}", file.path, number + 1));
                }
            }
        }
    }
    broken
}

/// Modules named in a line as `crate::module` or in one such as `use crate::{module::Type, other};`. Types that the root
/// re-exports begin with a capital and are none.
fn crate_modules(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let list = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or(list),
            None => rest.split([',', ';']).next().unwrap_or(rest),
        };
        for item in list.split(',') {
            let name = item.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            if name.starts_with(|c: char| c.is_lowercase()) && name != "self" {
                found.push(name);
            }
        }
    }
    found
}

/// Text files of the repository with their paths from its root, but for this one, which names what it forbids, and for
/// what tools write.
fn texts() -> Vec<(String, String)> {
    const EXTENSIONS: &[&str] =
        &["rs", "toml", "md", "py", "go", "js", "java", "txt", "json", "yml", "yaml", "html", "css", "sh"];
    walk(&root())
        .into_iter()
        .filter(|path| {
            let named = path.extension().is_some_and(|found| EXTENSIONS.iter().any(|known| found == *known));
            named || path.parent().is_some_and(|parent| parent.file_name().is_some_and(|name| name == ".ci"))
        })
        .map(|path| (relative(&path), read(&path)))
        .filter(|(path, _)| path != THIS_FILE && !path.starts_with("results/") && !path.contains("/frames/"))
        .collect()
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![canonical(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())).flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let hidden = name.starts_with('.') && name != ".ci";
            if hidden || ["target", "weir-data", "node_modules"].contains(&name.as_str()) {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

fn relative(path: &Path) -> String {
    path.strip_prefix(canonical(&root())).expect("a path inside the repository").display().to_string()
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether `line` has `word` with no letter, digit or underscore next to its ends that are such themselves.
fn contains_word(line: &str, word: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(start, _)| {
        let before = is_word(line[..start].chars().next_back()) && is_word(word.chars().next());
        let after = is_word(line[start + word.len()..].chars().next()) && is_word(word.chars().next_back());
        !before && !after
    })
}

/// Rust code with comments and the contents of string and character literals replaced by blanks.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let next = literal_end(&chars, at);
        match next {
            Some(end) => {
                out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
                at = end;
            }
            None => {
                out.push(chars[at]);
                at += 1;
            }
        }
    }
    out
}

/// The end of the comment or literal that begins at `at`, if one does.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let starts = |text: &str| text.chars().enumerate().all(|(index, c)| chars.get(at + index) == Some(&c));
    let find = |from: usize, end: &dyn Fn(usize) -> bool| (from..chars.len()).find(|index| end(*index));
    if starts("//") {
        return Some(find(at, &|index| chars[index] == '\n').unwrap_or(chars.len()));
    }
    if starts("/*") {
        let close = find(at + 2, &|index| chars[index] == '*' && chars.get(index + 1) == Some(&'/'));
        return Some(close.map_or(chars.len(), |index| index + 2));
    }
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    if !in_word && (starts("r\"") || starts("r#") || starts("br\"") || starts("br#")) {
        let open = at + if chars[at] == 'b' { 2 } else { 1 };
        let hashes = chars[open..].iter().take_while(|c| **c == '#').count();
        if chars.get(open + hashes) == Some(&'"') {
            let ends = |index: usize| {
                chars[index] == '"' && (1..=hashes).all(|offset| chars.get(index + offset) == Some(&'#'))
            };
            return Some(find(open + hashes + 1, &ends).map_or(chars.len(), |index| index + hashes + 1));
        }
    }
    if starts("\"") {
        return Some(quoted_end(chars, at, '"'));
    }
    // A quote begins a character where one follows that ends it, and a lifetime otherwise.
    let is_char = chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'');
    (starts("'") && is_char).then(|| quoted_end(chars, at, '\''))
}

fn quoted_end(chars: &[char], at: usize, quote: char) -> usize {
    let mut index = at + 1;
    while index < chars.len() && chars[index] != quote {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    (index + 1).min(chars.len())
}

/// Paths with `::` in backticks, without arguments.
fn quoted_paths(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted
        .map(|text| text.split(['(', '<', ' ']).next().unwrap_or(text))
        .filter(|text| text.contains("::") && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':'))
}

/// Crates that are not ours, whose items are taken on trust.
const FOREIGN: &[&str] = &["std", "core", "alloc", "io_uring", "bytes", "tokio", "libc", "rustix"];

fn exists(path: &str, sources: &[Source]) -> bool {
    let segments: Vec<&str> = path.split("::").filter(|segment| *segment != "crate").collect();
    if segments.first().is_none_or(|first| FOREIGN.contains(first)) {
        return true;
    }
    let [.., owner, item] = segments[..] else {
        return sources.iter().any(|source| defines(&source.code, segments[0]));
    };
    let of_owner = |source: &&Source| {
        let in_module = source.path.ends_with(&format!("/{owner}.rs")) || source.path.contains(&format!("/{owner}/"));
        let in_crate = source.path.starts_with(&format!("{owner}/"));
        in_module || in_crate || defines(&source.code, owner) || implements(&source.code, owner)
    };
    sources.iter().filter(of_owner).any(|source| {
        let is_module = source.path.ends_with(&format!("/{item}.rs")) || source.path.contains(&format!("/{item}/"));
        is_module || defines(&source.code, item)
    })
}

fn implements(code: &str, name: &str) -> bool {
    code.lines().any(|line| line.trim_start().starts_with("impl") && contains_word(line, name))
}

/// Whether the code has an item, a variant or a field of that name.
fn defines(code: &str, name: &str) -> bool {
    const ITEMS: &[&str] =
        &["fn", "struct", "enum", "const", "static", "trait", "type", "mod", "union", "macro_rules!"];
    ITEMS.iter().any(|item| contains_word(code, &format!("{item} {name}")))
        || code.lines().any(|line| {
            let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([',', '(', ':']) || rest.starts_with(" {"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_comments_and_literals_only() {
        let code =
            blank("let a = \"todo!(\"; // dbg!(\nlet b = 'x'; fn f<'a>(s: &'a str) {} /* \n */ r#\"q\"q\"# b'\\'' end");
        assert!(!code.contains("todo") && !code.contains("dbg") && !code.contains('q'), "{code}");
        assert!(code.contains("fn f<'a>(s: &'a str) {}") && code.ends_with(" end"), "{code}");
        assert_eq!(code.lines().count(), 3);
    }

    #[test]
    fn words_end_where_words_end() {
        assert!(contains_word("x.unwrap();", ".unwrap()"));
        assert!(!contains_word("x.unwrap_or(1)", ".unwrap()"));
        assert!(contains_word("good for now.", "for now"));
        assert!(!contains_word("for nowhere", "for now"));
        assert!(!contains_word("eprintln!(", "println!("));
    }

    #[test]
    fn modules_are_found_in_uses() {
        assert_eq!(crate_modules("use crate::cache::Slice;"), ["cache"]);
        assert_eq!(crate_modules("use crate::{io, reactor::Reactor, Store};"), ["io", "reactor"]);
        assert_eq!(crate_modules("let a = crate::limits::A + crate::index::B;"), ["limits", "index"]);
        assert!(crate_modules("use wire::Reader;").is_empty());
    }

    #[test]
    fn paths_in_designs_are_recognised() {
        let found: Vec<&str> = quoted_paths("calls `Store::append(slot)` and `a b`, then `io::Ring` of `x`").collect();
        assert_eq!(found, ["Store::append", "io::Ring"]);
        let code =
            "pub struct Store;\nimpl Store {\n    pub fn append() {}\n}\nenum E {\n    Cold(u8),\n}\n".to_owned();
        let sources = [Source { path: "engine/src/store.rs".to_owned(), code, is_test: false }];
        for path in
            ["Store::append", "store::Store", "crate::store::Store::append", "engine::Store", "E::Cold", "std::any"]
        {
            assert!(exists(path, &sources), "{path}");
        }
        for path in ["Store::read", "Other::append", "store::Reader"] {
            assert!(!exists(path, &sources), "{path}");
        }
    }

    #[test]
    fn module_declarations_are_read() {
        assert_eq!(declared_module("pub(crate) mod a_b;"), Some("a_b"));
        assert_eq!(declared_module("    mod x;"), Some("x"));
        assert_eq!(declared_module("mod x {"), None);
        assert_eq!(declared_module("let mod_x = y;"), None);
    }
}
