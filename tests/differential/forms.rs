//! Messages by their field tables: bodies that a script names field by field to bytes, and answers to trees of fields.
//! The codecs of the `wire` crate are generated from the same tables; here they are followed at run time, so that the
//! script can leave out what it does not care about, and say what no codec would let it say.

use std::collections::BTreeMap;

use wire::api::ApiKey;
use wire::batch::{BatchBuilder, NewRecord};
use wire::compression::Codec;
use wire::{DecodeError, Reader, Uuid, put};

use crate::schema::{self, Field, Kind, Message, Type};

/// A field of an answer, or all of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    /// No value where there might be one.
    Null,
    /// A number, a truth value, a text, or bytes in hex.
    Leaf(String),
    /// The elements of an array.
    List(Vec<Tree>),
    /// The fields of a struct, in the order of its table.
    Fields(Vec<(String, Tree)>),
}

/// What earlier answers have said, by the name that the script gave it.
pub(crate) type Variables = BTreeMap<String, String>;

/// Stands for null in a script, since TOML has no word for it.
const NULL: &str = "~";

/// The field tables.
#[derive(Debug)]
pub(crate) struct Forms(Vec<Message>);

impl Forms {
    /// Reads the tables of the `wire` crate.
    pub(crate) fn read() -> Forms {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/schema");
        let mut messages = Vec::new();
        for entry in std::fs::read_dir(dir).expect("the folder of the field tables") {
            let path = entry.expect("a readable folder").path();
            if path.extension().is_some_and(|extension| extension == "txt") {
                let text = std::fs::read_to_string(&path).expect("a readable table");
                messages.extend(schema::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
            }
        }
        Forms(messages)
    }

    /// Encodes the body of a request. Fields that the body does not name have their defaults; those that the version
    /// lacks are dropped.
    ///
    /// # Panics
    /// Where the body names a field that no version has, or a value has another type than its field.
    pub(crate) fn encode(&self, api: ApiKey, version: i16, body: &toml::Table, variables: &Variables) -> Vec<u8> {
        let message = self.find(api, Kind::Request);
        let flexible = message.flexible.is_some_and(|versions| versions.contains(version));
        let mut out = Vec::new();
        Encoder { message, version, flexible, variables }.fields(&mut out, &message.fields, body);
        out
    }

    /// Decodes the body of an answer, behind which nothing may follow.
    pub(crate) fn decode(&self, api: ApiKey, version: i16, body: &[u8]) -> Result<Tree, DecodeError> {
        let message = self.find(api, Kind::Response);
        let flexible = message.flexible.is_some_and(|versions| versions.contains(version));
        let mut reader = Reader::new(body);
        let tree = Decoder { message, version, flexible }.fields(&mut reader, &message.fields)?;
        reader.finish()?;
        Ok(tree)
    }

    fn find(&self, api: ApiKey, kind: Kind) -> &Message {
        let found = self.0.iter().find(|message| message.kind == kind && message.key == Some(api.key()));
        found.unwrap_or_else(|| panic!("the tables have no {kind:?} of {api}"))
    }
}

struct Encoder<'a> {
    message: &'a Message,
    version: i16,
    flexible: bool,
    variables: &'a Variables,
}

impl Encoder<'_> {
    fn fields(&self, out: &mut Vec<u8>, fields: &[Field], given: &toml::Table) {
        for name in given.keys() {
            assert!(fields.iter().any(|field| field.name == *name), "{} has no field {name}", self.message.name);
        }
        let here = fields.iter().filter(|field| field.versions.contains(self.version));
        let (tagged, plain): (Vec<&Field>, Vec<&Field>) = here.partition(|field| field.tag.is_some());
        for field in plain {
            self.value(out, field, &field.kind, given.get(&field.name));
        }
        if self.flexible {
            let mut tags: Vec<(u32, Vec<u8>)> = Vec::new();
            for field in tagged {
                let (Some((tag, _)), Some(value)) = (field.tag, given.get(&field.name)) else { continue };
                let mut bytes = Vec::new();
                self.value(&mut bytes, field, &field.kind, Some(value));
                tags.push((tag, bytes));
            }
            tags.sort();
            put::uvarint(out, tags.len() as u32);
            for (tag, bytes) in tags {
                put::uvarint(out, tag);
                put::uvarint(out, bytes.len() as u32);
                out.extend(bytes);
            }
        }
    }

    fn value(&self, out: &mut Vec<u8>, field: &Field, kind: &Type, given: Option<&toml::Value>) {
        let text = given.and_then(toml::Value::as_str).map(|text| self.expand(text));
        let default = field.default.as_deref();
        let is_null = match given {
            Some(_) => text.as_deref() == Some(NULL),
            None => default == Some("null"),
        };
        let number = |least: i64| match given {
            Some(toml::Value::Integer(number)) => *number,
            Some(toml::Value::Boolean(truth)) => i64::from(*truth),
            Some(_) => parse(field, text.as_deref().unwrap_or("no text")),
            None => default.filter(|it| *it != "null").map_or(least, |text| match text {
                "true" => 1,
                "false" => 0,
                number => parse(field, number),
            }),
        };
        let compact = self.flexible && !field.never_flexible;
        match kind {
            Type::Bool => put::bool(out, number(0) != 0),
            Type::Int8 => put::i8(out, number(0) as i8),
            Type::Int16 => put::i16(out, number(0) as i16),
            Type::Uint16 => put::u16(out, number(0) as u16),
            Type::Int32 => put::i32(out, number(0) as i32),
            Type::Int64 => put::i64(out, number(0)),
            Type::Float64 => put::f64(out, given.and_then(toml::Value::as_float).unwrap_or(0.0)),
            Type::Uuid => {
                let id = text.map_or(Uuid::ZERO, |text| text.parse().expect("a uuid in base64url"));
                put::uuid(out, id);
            }
            Type::String => {
                let text = text.or_else(|| default.map(str::to_owned)).unwrap_or_default();
                let text = (!is_null).then_some(text.as_str());
                put::nullable_string(out, compact, text).expect("a text of a script fits");
            }
            Type::Bytes | Type::Records => {
                let bytes = match given {
                    Some(toml::Value::Table(table)) if kind == &Type::Records => Some(self.batch(table)),
                    Some(toml::Value::Array(batches)) => {
                        let batch = |it: &toml::Value| self.batch(it.as_table().expect("a batch is a table"));
                        Some(batches.iter().flat_map(batch).collect())
                    }
                    _ if is_null => None,
                    _ => Some(text.unwrap_or_default().into_bytes()),
                };
                put::nullable_bytes(out, compact, bytes.as_deref()).expect("bytes of a script fit");
            }
            Type::Struct(name) => {
                let fields = self.message.fields_of(name).expect("a struct of the message");
                let nullable = field.nullable.is_some_and(|versions| versions.contains(self.version));
                if nullable {
                    put::i8(out, if is_null { -1 } else { 1 });
                }
                if !is_null {
                    let empty = toml::Table::new();
                    self.fields(out, fields, given.and_then(toml::Value::as_table).unwrap_or(&empty));
                }
            }
            Type::Array(element) => {
                let items = given.and_then(toml::Value::as_array);
                assert!(items.is_some() || given.is_none() || is_null, "{} is an array", field.name);
                let len = items.map_or(0, Vec::len);
                put::nullable_len(out, compact, (!is_null).then_some(len)).expect("an array of a script fits");
                for item in items.into_iter().flatten() {
                    self.element(out, field, element, item);
                }
            }
        }
    }

    fn element(&self, out: &mut Vec<u8>, field: &Field, kind: &Type, given: &toml::Value) {
        match kind {
            Type::Struct(name) => {
                let fields = self.message.fields_of(name).expect("a struct of the message");
                self.fields(out, fields, given.as_table().unwrap_or_else(|| panic!("{} holds tables", field.name)));
            }
            plain => self.value(out, field, plain, Some(given)),
        }
    }

    /// A record batch: `values`, `keys`, `timestamps`, `codec`, the producer's `id`, `epoch` and `sequence`,
    /// `transactional`, `control`, and as `damage` the place of a byte to be changed.
    fn batch(&self, given: &toml::Table) -> Vec<u8> {
        let int = |name: &str, missing: i64| match given.get(name) {
            None => missing,
            Some(toml::Value::Integer(number)) => *number,
            Some(text) => self.expand(text.as_str().expect("a number")).parse().expect("a number"),
        };
        let truth = |name: &str| given.get(name).and_then(toml::Value::as_bool).unwrap_or_default();
        let list = |name: &str| given.get(name).and_then(toml::Value::as_array).cloned().unwrap_or_default();
        let codec = match given.get("codec").and_then(toml::Value::as_str) {
            None => Codec::None,
            Some("gzip") => Codec::Gzip,
            Some("snappy") => Codec::Snappy,
            Some("lz4") => Codec::Lz4,
            Some("zstd") => Codec::Zstd,
            Some(other) => panic!("no codec {other}"),
        };
        let mut builder = BatchBuilder::new(codec);
        builder.producer(int("id", -1), int("epoch", -1) as i16, int("sequence", -1) as i32);
        builder.transactional(truth("transactional")).control(truth("control"));
        let (keys, timestamps) = (list("keys"), list("timestamps"));
        for (index, value) in list("values").iter().enumerate() {
            let text = |value: &toml::Value| {
                let text = self.expand(value.as_str().expect("keys and values are texts"));
                (text != NULL).then(|| text.into_bytes())
            };
            let (key, value) = (keys.get(index).and_then(text), text(value));
            let timestamp = timestamps.get(index).and_then(toml::Value::as_integer).unwrap_or(int("time", TIME_MS));
            let record = NewRecord { timestamp, key: key.as_deref(), value: value.as_deref(), ..NewRecord::default() };
            builder.push(&record).expect("records of a script fit");
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).expect("a batch has a record");
        if let Some(place) = given.get("damage").and_then(toml::Value::as_integer) {
            bytes[place as usize] ^= 1;
        }
        bytes
    }

    /// `$name` is what a variable holds, `${version}` inside a text the version of the request.
    fn expand(&self, text: &str) -> String {
        let text = text.replace("${version}", &self.version.to_string());
        match text.strip_prefix('$') {
            Some(name) => self.variables.get(name).unwrap_or_else(|| panic!("nothing is saved as {name}")).clone(),
            None => text,
        }
    }
}

/// When records of a script are from, unless it says otherwise: 2025-10-09.
const TIME_MS: i64 = 1_760_000_000_000;

fn parse(field: &Field, text: &str) -> i64 {
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| i64::from_str_radix(hex, 16));
    parsed.unwrap_or_else(|_| panic!("{} is a number, not {text}", field.name))
}

struct Decoder<'a> {
    message: &'a Message,
    version: i16,
    flexible: bool,
}

impl Decoder<'_> {
    fn fields(&self, reader: &mut Reader<'_>, fields: &[Field]) -> Result<Tree, DecodeError> {
        let mut tree = Vec::new();
        for field in fields.iter().filter(|field| field.versions.contains(self.version) && field.tag.is_none()) {
            tree.push((field.name.clone(), self.value(reader, field, &field.kind)?));
        }
        if self.flexible {
            for _ in 0..reader.uvarint()? {
                let tag = reader.uvarint()?;
                let len = reader.uvarint()? as usize;
                let bytes = reader.take(len)?;
                let is_it = |field: &&Field| {
                    field.tag.is_some_and(|(number, versions)| number == tag && versions.contains(self.version))
                };
                let tree_of = |field: &Field| self.value(&mut Reader::new(bytes), field, &field.kind);
                match fields.iter().find(is_it) {
                    Some(field) => tree.push((field.name.clone(), tree_of(field)?)),
                    None => tree.push((format!("tag {tag}"), Tree::Leaf(hex(bytes)))),
                }
            }
        }
        Ok(Tree::Fields(tree))
    }

    fn value(&self, reader: &mut Reader<'_>, field: &Field, kind: &Type) -> Result<Tree, DecodeError> {
        let compact = self.flexible && !field.never_flexible;
        let leaf = |text: String| Ok(Tree::Leaf(text));
        match kind {
            Type::Bool => leaf(reader.bool()?.to_string()),
            Type::Int8 => leaf(reader.i8()?.to_string()),
            Type::Int16 => leaf(reader.i16()?.to_string()),
            Type::Uint16 => leaf(reader.u16()?.to_string()),
            Type::Int32 => leaf(reader.i32()?.to_string()),
            Type::Int64 => leaf(reader.i64()?.to_string()),
            Type::Float64 => leaf(reader.f64()?.to_string()),
            Type::Uuid => leaf(reader.uuid()?.to_string()),
            Type::String => {
                let text = reader.nullable_string(compact)?;
                Ok(text.map_or(Tree::Null, |text| Tree::Leaf(text.to_owned())))
            }
            Type::Bytes => {
                let bytes = reader.nullable_bytes(compact)?;
                Ok(bytes.map_or(Tree::Null, |bytes| Tree::Leaf(text_or_hex(bytes))))
            }
            Type::Records => {
                let bytes = reader.nullable_bytes(compact)?;
                Ok(bytes.map_or(Tree::Null, |bytes| Tree::List(batches(bytes))))
            }
            Type::Struct(name) => {
                let fields = self.message.fields_of(name).expect("a struct of the message");
                let nullable = field.nullable.is_some_and(|versions| versions.contains(self.version));
                if nullable && reader.i8()? < 0 {
                    return Ok(Tree::Null);
                }
                self.fields(reader, fields)
            }
            Type::Array(element) => {
                let count = match compact {
                    true => i64::from(reader.uvarint()?) - 1,
                    false => i64::from(reader.i32()?),
                };
                if count < 0 {
                    return Ok(Tree::Null);
                }
                let item = |reader: &mut Reader<'_>| match &**element {
                    Type::Struct(name) => {
                        self.fields(reader, self.message.fields_of(name).expect("a struct of the message"))
                    }
                    plain => self.value(reader, field, plain),
                };
                (0..count).map(|_| item(reader)).collect::<Result<_, _>>().map(Tree::List)
            }
        }
    }
}

/// The batches of an answer. One that cannot be read is shown as it is.
fn batches(bytes: &[u8]) -> Vec<Tree> {
    let leaf = |text: String| Tree::Leaf(text);
    let of = |batch: Result<wire::batch::BatchView<'_>, String>| {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return leaf(error),
        };
        let mut scratch = Vec::new();
        let Ok(body) = batch.decompress(1 << 20, &mut scratch) else { return leaf("undecodable".to_owned()) };
        // Markers are of the time at which the coordinator wrote them.
        let time =
            |timestamp: i64| leaf(if batch.attributes().is_control() { "*".to_owned() } else { timestamp.to_string() });
        let record = |record: wire::batch::Record<'_>| {
            let bytes = |bytes: Option<&[u8]>| bytes.map_or(Tree::Null, |bytes| leaf(text_or_hex(bytes)));
            Tree::Fields(vec![
                ("Offset".to_owned(), leaf(record.offset.to_string())),
                ("Timestamp".to_owned(), time(record.timestamp)),
                ("Key".to_owned(), bytes(record.key)),
                ("Value".to_owned(), bytes(record.value)),
            ])
        };
        let records = batch.records_in(body).map(|it| it.map_or_else(|error| leaf(format!("{error:?}")), record));
        Tree::Fields(vec![
            ("BaseOffset".to_owned(), leaf(batch.base_offset().to_string())),
            ("LastOffset".to_owned(), leaf(batch.last_offset().to_string())),
            ("Attributes".to_owned(), leaf(batch.attributes().0.to_string())),
            ("LeaderEpoch".to_owned(), leaf(batch.leader_epoch().to_string())),
            ("ProducerId".to_owned(), leaf(batch.producer_id().to_string())),
            ("ProducerEpoch".to_owned(), leaf(batch.producer_epoch().to_string())),
            ("BaseSequence".to_owned(), leaf(batch.base_sequence().to_string())),
            ("MaxTimestamp".to_owned(), time(batch.max_timestamp())),
            ("Records".to_owned(), Tree::List(records.collect())),
        ])
    };
    harness::raw::batches(bytes).map(of).collect()
}

fn text_or_hex(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|it| !it.is_control()) => text.to_owned(),
        _ => hex(bytes),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
