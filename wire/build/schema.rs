//! The notation of the field tables in `schema/` (described in `schema/README.md`) and its parser.

use std::fmt;

/// One message: a request, a response, a record, a header or a piece of data inside other messages.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    /// API key of a request or response, record type of a record.
    pub(crate) key: Option<i16>,
    pub(crate) name: String,
    /// Versions that the table describes; none for an API that Kafka has retired.
    pub(crate) versions: Option<Versions>,
    /// Versions that Kafka itself accepts: narrower than `versions` where legacy versions were added.
    pub(crate) kafka: Option<Versions>,
    pub(crate) flexible: Option<Versions>,
    /// Listeners of a request: `broker`, `controller`.
    pub(crate) listeners: Vec<String>,
    /// Whether Kafka still calls the latest version unstable.
    pub(crate) unstable: bool,
    pub(crate) fields: Vec<Field>,
    /// Structs that more than one field of the message uses.
    pub(crate) structs: Vec<Struct>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
    Header,
    Data,
    MetadataRecord,
    CoordinatorKey,
    CoordinatorValue,
}

impl Kind {
    /// The word at the start of a message's line, which is also the `type` in Kafka's own definitions.
    pub(crate) const WORDS: [(&'static str, Kind); 7] = [
        ("request", Kind::Request),
        ("response", Kind::Response),
        ("header", Kind::Header),
        ("data", Kind::Data),
        ("metadata", Kind::MetadataRecord),
        ("coordinator-key", Kind::CoordinatorKey),
        ("coordinator-value", Kind::CoordinatorValue),
    ];
}

#[derive(Debug, Clone)]
pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) versions: Versions,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: Type,
    pub(crate) versions: Versions,
    /// Versions in which null is a legal value.
    pub(crate) nullable: Option<Versions>,
    /// Tag, and the versions in which the field is tagged: all of `versions` in every table so far.
    pub(crate) tag: Option<(u32, Versions)>,
    /// The default where it is not zero, false or empty.
    pub(crate) default: Option<String>,
    /// Whether a value is silently dropped where the version lacks the field.
    pub(crate) ignorable: bool,
    /// Set where the field is never in the compact form, even in flexible versions.
    pub(crate) never_flexible: bool,
    /// Fields of the struct that is defined in place; empty if the struct stands elsewhere in the message.
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

/// An inclusive range of versions; `max` is `i16::MAX` where it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) min: i16,
    pub(crate) max: i16,
}

impl Versions {
    pub(crate) fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    pub(crate) fn covers(self, other: Versions) -> bool {
        self.min <= other.min && other.max <= self.max
    }

    /// The versions in both ranges.
    pub(crate) fn and(self, other: Versions) -> Option<Versions> {
        let both = Versions { min: self.min.max(other.min), max: self.max.min(other.max) };
        (both.min <= both.max).then_some(both)
    }

    /// Reads `3`, `3-7`, `3+`, or `none`.
    pub(crate) fn parse(text: &str) -> Result<Option<Versions>, String> {
        let number = |digits: &str| digits.parse::<i16>().map_err(|_| format!("not a version: {text}"));
        if text == "none" {
            return Ok(None);
        }
        let (min, max) = if let Some(min) = text.strip_suffix('+') {
            (number(min)?, i16::MAX)
        } else if let Some((min, max)) = text.split_once('-') {
            (number(min)?, number(max)?)
        } else {
            (number(text)?, number(text)?)
        };
        if min < 0 || min > max {
            return Err(format!("an empty range of versions: {text}"));
        }
        Ok(Some(Versions { min, max }))
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else if self.max == i16::MAX {
            write!(f, "{}+", self.min)
        } else {
            write!(f, "{}-{}", self.min, self.max)
        }
    }
}

impl Type {
    pub(crate) fn parse(text: &str) -> Type {
        match text {
            "bool" => Type::Bool,
            "int8" => Type::Int8,
            "int16" => Type::Int16,
            "uint16" => Type::Uint16,
            "int32" => Type::Int32,
            "int64" => Type::Int64,
            "float64" => Type::Float64,
            "uuid" => Type::Uuid,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "records" => Type::Records,
            _ => match text.strip_prefix("[]") {
                Some(element) => Type::Array(Box::new(Type::parse(element))),
                None => Type::Struct(text.to_string()),
            },
        }
    }

    /// The struct that the field holds, itself or as elements.
    pub(crate) fn struct_name(&self) -> Option<&str> {
        match self {
            Type::Struct(name) => Some(name),
            Type::Array(element) => element.struct_name(),
            _ => None,
        }
    }
}

impl Message {
    /// The struct named, with its fields, wherever in the message it is defined.
    #[allow(dead_code, reason = "the generator lists structs, the tests look them up")]
    pub(crate) fn fields_of(&self, name: &str) -> Option<&[Field]> {
        fn search<'m>(fields: &'m [Field], name: &str) -> Option<&'m [Field]> {
            fields.iter().find_map(|field| {
                if field.kind.struct_name() == Some(name) && !field.fields.is_empty() {
                    Some(&field.fields[..])
                } else {
                    search(&field.fields, name)
                }
            })
        }
        if let Some(common) = self.structs.iter().find(|common| common.name == name) {
            return Some(&common.fields);
        }
        search(&self.fields, name).or_else(|| self.structs.iter().find_map(|common| search(&common.fields, name)))
    }
}

/// Reads one table. An error names the line.
pub(crate) fn parse(text: &str) -> Result<Vec<Message>, String> {
    let mut messages: Vec<Message> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let spaces = line.len() - line.trim_start().len();
        let mut words = content.split(' ').collect::<Vec<_>>().into_iter();
        let result = if spaces == 0 {
            parse_message(&mut words).map(|message| messages.push(message))
        } else if spaces % 2 != 0 {
            Err("indent by two spaces".to_string())
        } else {
            match messages.last_mut() {
                Some(message) => parse_inside(message, spaces / 2, &mut words),
                None => Err("a field before the first message".to_string()),
            }
        };
        result.map_err(|error| format!("line {}: {error}", index + 1))?;
    }
    Ok(messages)
}

type Words<'a> = std::vec::IntoIter<&'a str>;

fn parse_message(words: &mut Words<'_>) -> Result<Message, String> {
    let word = next(words, "a kind")?;
    let kind = Kind::WORDS.iter().find(|(name, _)| *name == word).ok_or(format!("unknown kind {word}"))?.1;
    let key = match kind {
        Kind::Header | Kind::Data => None,
        _ => Some(next(words, "a key")?.parse::<i16>().map_err(|error| error.to_string())?),
    };
    let name = next(words, "a name")?.to_string();
    let versions = Versions::parse(next(words, "versions")?)?;
    let mut message = Message {
        kind,
        key,
        name,
        versions,
        kafka: versions,
        flexible: None,
        listeners: Vec::new(),
        unstable: false,
        fields: Vec::new(),
        structs: Vec::new(),
    };
    while let Some(word) = words.next() {
        match word {
            "kafka" => message.kafka = Versions::parse(next(words, "versions")?)?,
            "flexible" => message.flexible = Versions::parse(next(words, "versions")?)?,
            "on" => message.listeners = next(words, "listeners")?.split(',').map(str::to_string).collect(),
            "unstable" => message.unstable = true,
            _ => return Err(format!("unknown word {word}")),
        }
    }
    Ok(message)
}

/// A field, or the head of a common struct, at the given depth (1 = directly in the message).
fn parse_inside(message: &mut Message, depth: usize, words: &mut Words<'_>) -> Result<(), String> {
    let name = next(words, "a name")?;
    if name == "struct" {
        if depth != 1 {
            return Err("a common struct stands directly in its message".to_string());
        }
        let name = next(words, "a name")?.to_string();
        let versions = Versions::parse(next(words, "versions")?)?.ok_or("a struct needs versions")?;
        message.structs.push(Struct { name, versions, fields: Vec::new() });
        return Ok(());
    }
    let mut field = Field {
        name: name.to_string(),
        kind: Type::parse(next(words, "a type")?),
        versions: Versions::parse(next(words, "versions")?)?.ok_or("a field needs versions")?,
        nullable: None,
        tag: None,
        default: None,
        ignorable: false,
        never_flexible: false,
        fields: Vec::new(),
    };
    while let Some(word) = words.next() {
        match word {
            "null" => field.nullable = Versions::parse(next(words, "versions")?)?,
            "tag" => {
                let tag = next(words, "a tag")?.parse().map_err(|_| "a tag is a number")?;
                field.tag = Some((tag, Versions::parse(next(words, "versions")?)?.ok_or("a tag needs versions")?));
            }
            "default" => field.default = Some(next(words, "a value")?.to_string()),
            "ignorable" => field.ignorable = true,
            "flexible" if words.next() == Some("none") => field.never_flexible = true,
            _ => return Err(format!("unknown word {word}")),
        }
    }
    if field.tag.is_some_and(|(_, versions)| versions != field.versions) {
        return Err("a field that is tagged in some of its versions only".to_string());
    }
    let (mut fields, mut level) = match message.structs.last_mut() {
        Some(common) if depth > 1 => (&mut common.fields, 2),
        Some(_) => return Err("a field after the common structs".to_string()),
        None => (&mut message.fields, 1),
    };
    while level < depth {
        fields = &mut fields.last_mut().ok_or("indented too deep")?.fields;
        level += 1;
    }
    fields.push(field);
    Ok(())
}

fn next<'a>(words: &mut Words<'a>, what: &str) -> Result<&'a str, String> {
    words.next().filter(|word| !word.is_empty()).ok_or(format!("{what} is missing"))
}
