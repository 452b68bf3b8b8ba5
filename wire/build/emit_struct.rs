//! The code of one message: its structs, their defaults, decoding and encoding.
//!
//! The code is straight lines of calls to small functions that are not generic, so that some 270 messages compile in
//! seconds. What the version decides is asked of one integer, `version`, by comparisons with constants.

use crate::emit::first;
use crate::schema::{Field, Kind, Message, Type, Versions};
use std::fmt::Write;

/// All items of a message's module.
pub(crate) fn message(message: &Message) -> String {
    let versions = message.versions.expect("only messages that have versions are emitted");
    let context = Context { message, versions };
    let mut out = String::new();
    let mut structs = vec![Struct { name: &message.name, versions, fields: &message.fields, top: true }];
    for common in &message.structs {
        structs.push(Struct { name: &common.name, versions: common.versions, fields: &common.fields, top: false });
    }
    let mut index = 0;
    while let Some(&Struct { fields, versions, .. }) = structs.get(index) {
        for field in fields.iter().filter(|field| !field.fields.is_empty()) {
            let name = field.kind.struct_name().expect("only structs have fields");
            let versions = versions.and(field.versions).unwrap_or(field.versions);
            structs.push(Struct { name, versions, fields: &field.fields, top: false });
        }
        index += 1;
    }
    for item in &structs {
        context.define(&mut out, item);
        context.default(&mut out, item);
        context.codec(&mut out, item);
    }
    out
}

/// `MaxWaitMs` and `maxWaitMs` become `max_wait_ms`.
pub(crate) fn snake(name: &str) -> String {
    let characters: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (index, &character) in characters.iter().enumerate() {
        if character.is_ascii_uppercase() && index > 0 {
            let word_ended = !characters[index - 1].is_ascii_uppercase();
            let word_begins = characters.get(index + 1).is_some_and(char::is_ascii_lowercase);
            if word_ended || word_begins {
                out.push('_');
            }
        }
        out.push(character.to_ascii_lowercase());
    }
    out
}

fn ident(name: &str) -> String {
    match snake(name).as_str() {
        word @ ("type" | "match") => format!("r#{word}"),
        word => word.to_string(),
    }
}

struct Struct<'m> {
    name: &'m str,
    /// Versions in which the struct can occur.
    versions: Versions,
    fields: &'m [Field],
    top: bool,
}

struct Context<'m> {
    message: &'m Message,
    versions: Versions,
}

impl Context<'_> {
    fn define(&self, out: &mut String, item: &Struct<'_>) {
        if item.top {
            writeln!(out, "/// {}", self.summary()).unwrap();
        } else {
            writeln!(out, "/// A part of [`{}`].", self.message.name).unwrap();
        }
        let derived = if item.fields.iter().all(|field| self.default_is_derived(field)) { ", Default" } else { "" };
        writeln!(out, "#[derive(Debug, Clone, PartialEq{derived})]").unwrap();
        writeln!(out, "pub struct {}{} {{", item.name, self.lifetime_of(item.fields)).unwrap();
        for field in item.fields {
            writeln!(out, "/// {}", field_summary(field)).unwrap();
            writeln!(out, "pub {}: {},", ident(&field.name), self.rust_type(field)).unwrap();
        }
        out.push_str("}\n");
    }

    fn summary(&self) -> String {
        let message = self.message;
        let key = message.key.unwrap_or(-1);
        let mut text = match message.kind {
            Kind::Request => format!("The request of API {key}."),
            Kind::Response => format!("The response of API {key}."),
            Kind::MetadataRecord => format!("Record type {key} of the metadata log."),
            Kind::CoordinatorKey => format!("The key of coordinator records of type {key}."),
            Kind::CoordinatorValue => format!("The value of coordinator records of type {key}."),
            Kind::Header | Kind::Data => "Data inside other messages or batches.".to_string(),
        };
        write!(text, " Versions {}", self.versions).unwrap();
        if let Some(kafka) = message.kafka
            && kafka != self.versions
        {
            write!(text, " (Kafka 4: {kafka})").unwrap();
        }
        match message.flexible {
            Some(flexible) if flexible.min > 0 => write!(text, ", flexible from {}.", flexible.min).unwrap(),
            Some(_) => text.push_str(", all flexible."),
            None => text.push_str(", none flexible."),
        }
        text
    }

    fn default(&self, out: &mut String, item: &Struct<'_>) {
        if item.fields.iter().all(|field| self.default_is_derived(field)) {
            return;
        }
        let lifetime = if self.borrows(item.fields) { "<'_>" } else { "" };
        writeln!(out, "impl Default for {}{lifetime} {{ fn default() -> Self {{ Self {{", item.name).unwrap();
        for field in item.fields {
            writeln!(out, "{}: {},", ident(&field.name), self.default_value(field)).unwrap();
        }
        out.push_str("} } }\n");
    }

    fn codec(&self, out: &mut String, item: &Struct<'_>) {
        let mut decode = String::new();
        let mut encode = String::new();
        if item.top {
            let Versions { min, max } = self.versions;
            let known = if min == 0 && max == 0 {
                "version != 0".to_string()
            } else {
                format!("!({min}..={max}).contains(&version)")
            };
            writeln!(decode, "if {known} {{ return Err(DecodeError::UnsupportedVersion); }}").unwrap();
            writeln!(encode, "if {known} {{ return Err(EncodeError::UnsupportedVersion(version)); }}").unwrap();
        }
        self.decode_body(&mut decode, item);
        self.encode_body(&mut encode, item);
        if decode.contains("flexible") {
            decode.insert_str(0, &self.flexible_let());
        }
        if encode.contains("flexible") {
            encode.insert_str(0, &self.flexible_let());
        }
        let borrows = self.borrows(item.fields);
        let (name, lifetime) = (item.name, if borrows { "<'a>" } else { "" });
        if item.top {
            let Versions { min, max } = self.versions;
            let key = self.message.key.unwrap_or(-1);
            let flexible = first(self.message.flexible);
            writeln!(
                out,
                "impl<'a> Message<'a> for {name}{lifetime} {{\n\
                 const API_KEY: i16 = {key};\nconst MIN_VERSION: i16 = {min};\nconst MAX_VERSION: i16 = {max};\n\
                 const FLEXIBLE_FROM: i16 = {flexible};\n\
                 fn decode(r: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError> {{\n{decode}}}\n\
                 fn encode(&self, out: &mut Vec<u8>, version: i16) -> Result<(), EncodeError> {{\n{encode}}}\n}}"
            )
            .unwrap();
        } else {
            let reader = if borrows { "Reader<'a>" } else { "Reader<'_>" };
            writeln!(
                out,
                "impl{lifetime} {name}{lifetime} {{\n\
                 fn decode(r: &mut {reader}, version: i16) -> Result<Self, DecodeError> {{\n{decode}}}\n\
                 fn encode(&self, out: &mut Vec<u8>, version: i16) -> Result<(), EncodeError> {{\n{encode}}}\n}}"
            )
            .unwrap();
        }
    }

    /// The condition that the version is flexible, as a local where it is not a constant.
    fn flexible_let(&self) -> String {
        format!("let flexible = {};\n", self.within(self.message.flexible, self.versions))
    }

    fn decode_body(&self, out: &mut String, item: &Struct<'_>) {
        let (tagged, plain): (Vec<&Field>, Vec<&Field>) = item.fields.iter().partition(|field| field.tag.is_some());
        let mutable = if tagged.is_empty() { "" } else { "mut " };
        writeln!(out, "let {mutable}m = Self {{").unwrap();
        for field in plain {
            let read = self.read(field);
            let default = self.default_value(field);
            match self.within(Some(field.versions), item.versions).as_str() {
                "true" => writeln!(out, "{}: {read},", ident(&field.name)),
                "false" => writeln!(out, "{}: {default},", ident(&field.name)),
                present => {
                    writeln!(out, "{}: if {present} {{ {read} }} else {{ {default} }},", ident(&field.name))
                }
            }
            .unwrap();
        }
        for field in &tagged {
            writeln!(out, "{}: {},", ident(&field.name), self.default_value(field)).unwrap();
        }
        out.push_str("};\n");
        if self.message.flexible.and_then(|flexible| flexible.and(item.versions)).is_some() {
            if tagged.is_empty() {
                out.push_str("if flexible { r.skip_tags()?; }\n");
            } else {
                out.push_str(
                    "if flexible {\nlet mut tags = r.tags()?;\nwhile let Some(tag) = tags.next(r)? {\nmatch tag {\n",
                );
                for field in tagged {
                    let (tag, versions) = field.tag.expect("partitioned by it");
                    let present = self.within(Some(versions), item.versions);
                    let guard = if present == "true" { String::new() } else { format!(" if {present}") };
                    writeln!(out, "{tag}{guard} => m.{} = {},", ident(&field.name), self.read(field)).unwrap();
                }
                out.push_str("_ => tags.skip(r),\n}\n}\n}\n");
            }
        }
        out.push_str("Ok(m)\n");
    }

    /// An expression that reads a field which the version has.
    fn read(&self, field: &Field) -> String {
        let optional = self.optional(field);
        let prefix = if optional { "nullable_" } else { "" };
        let read = match &field.kind {
            Type::Bool => "r.bool()?".to_string(),
            Type::Int8 => "r.i8()?".to_string(),
            Type::Int16 => "r.i16()?".to_string(),
            Type::Uint16 => "r.u16()?".to_string(),
            Type::Int32 => "r.i32()?".to_string(),
            Type::Int64 => "r.i64()?".to_string(),
            Type::Float64 => "r.f64()?".to_string(),
            Type::Uuid => "r.uuid()?".to_string(),
            Type::String => format!("r.{prefix}string(flexible)?"),
            Type::Bytes | Type::Records => format!("r.{prefix}bytes(flexible)?"),
            Type::Struct(name) if optional => {
                // Only versions that know null say so before the struct: Kafka writes a signed byte, but a varint where
                // the field is tagged.
                let nullable = self.within(field.nullable, field.versions);
                let marker = if field.tag.is_some() { "r.uvarint()? > 0" } else { "r.i8()? >= 0" };
                let present =
                    if nullable == "true" { marker.to_string() } else { format!("!({nullable}) || {marker}") };
                return format!("if {present} {{ Some({name}::decode(r, version)?) }} else {{ None }}");
            }
            Type::Struct(name) => format!("{name}::decode(r, version)?"),
            Type::Array(element) => match &**element {
                Type::Struct(name) => {
                    let min_size = self.min_size_expression(name, field.versions);
                    format!("r.{prefix}array(flexible, {min_size}, version, {name}::decode)?")
                }
                primitive => format!("r.{prefix}{}_array(flexible)?", primitive_name(primitive)),
            },
        };
        if optional {
            let nullable = self.within(field.nullable, field.versions);
            if nullable != "true" {
                return format!("require({nullable}, {read})?");
            }
        }
        read
    }

    fn encode_body(&self, out: &mut String, item: &Struct<'_>) {
        for field in item.fields.iter().filter(|field| field.tag.is_none()) {
            let name = ident(&field.name);
            let write = self.write(field);
            let refuse = if field.ignorable {
                String::new()
            } else {
                let set = self.differs(field, &name);
                format!("if {set} {{ return Err(EncodeError::NotInVersion({:?})); }}\n", field.name)
            };
            match (self.within(Some(field.versions), item.versions).as_str(), refuse.is_empty()) {
                ("true", _) => out.push_str(&write),
                ("false", _) => out.push_str(&refuse),
                (present, true) => writeln!(out, "if {present} {{\n{write}}}").unwrap(),
                (present, false) => writeln!(out, "if {present} {{\n{write}}} else {refuse}").unwrap(),
            }
        }
        self.encode_tags(out, item);
        out.push_str("Ok(())\n");
    }

    fn encode_tags(&self, out: &mut String, item: &Struct<'_>) {
        let mut tagged: Vec<(u32, &Field)> =
            item.fields.iter().filter_map(|field| field.tag.map(|(tag, _)| (tag, field))).collect();
        tagged.sort_by_key(|(tag, _)| *tag);
        for (tag, field) in &tagged {
            let set = self.differs(field, &ident(&field.name));
            writeln!(out, "let set_{tag} = {set};").unwrap();
            let present = self.within(Some(field.versions), item.versions);
            if present == "true" {
                continue;
            }
            if field.ignorable {
                writeln!(out, "let set_{tag} = set_{tag} && {present};").unwrap();
            } else {
                let error = format!("EncodeError::NotInVersion({:?})", field.name);
                writeln!(out, "if set_{tag} && !({present}) {{ return Err({error}); }}").unwrap();
            }
        }
        if self.message.flexible.and_then(|flexible| flexible.and(item.versions)).is_none() {
            return;
        }
        out.push_str("if flexible {\n");
        let count: Vec<String> = tagged.iter().map(|(tag, _)| format!("u32::from(set_{tag})")).collect();
        let count = if count.is_empty() { "0".to_string() } else { count.join(" + ") };
        writeln!(out, "put::uvarint(out, {count});").unwrap();
        for (tag, field) in &tagged {
            let write = self.write(field);
            writeln!(out, "if set_{tag} {{\nlet start = put::tag(out, {tag});\n{write}put::end_tag(out, start)?;\n}}")
                .unwrap();
        }
        out.push_str("}\n");
    }

    /// Statements that write a field which the version has.
    fn write(&self, field: &Field) -> String {
        let name = ident(&field.name);
        let optional = self.optional(field);
        let prefix = if optional { "nullable_" } else { "" };
        let nullable = if optional { self.within(field.nullable, field.versions) } else { "true".to_string() };
        let mut out = String::new();
        if nullable != "true" {
            let error = format!("EncodeError::UnexpectedNull({:?})", field.name);
            writeln!(out, "if !({nullable}) && self.{name}.is_none() {{ return Err({error}); }}").unwrap();
        }
        match &field.kind {
            Type::Bool => writeln!(out, "put::bool(out, self.{name});"),
            Type::Int8 => writeln!(out, "put::i8(out, self.{name});"),
            Type::Int16 => writeln!(out, "put::i16(out, self.{name});"),
            Type::Uint16 => writeln!(out, "put::u16(out, self.{name});"),
            Type::Int32 => writeln!(out, "put::i32(out, self.{name});"),
            Type::Int64 => writeln!(out, "put::i64(out, self.{name});"),
            Type::Float64 => writeln!(out, "put::f64(out, self.{name});"),
            Type::Uuid => writeln!(out, "put::uuid(out, self.{name});"),
            Type::String => writeln!(out, "put::{prefix}string(out, flexible, self.{name})?;"),
            Type::Bytes | Type::Records => writeln!(out, "put::{prefix}bytes(out, flexible, self.{name})?;"),
            Type::Struct(_) if optional => {
                let null = if field.tag.is_some() { "0" } else { "-1" };
                let marker = format!("put::i8(out, if self.{name}.is_some() {{ 1 }} else {{ {null} }});");
                let marker = if nullable == "true" { marker } else { format!("if {nullable} {{ {marker} }}") };
                writeln!(out, "{marker}\nif let Some(item) = &self.{name} {{ item.encode(out, version)?; }}")
            }
            Type::Struct(_) => writeln!(out, "self.{name}.encode(out, version)?;"),
            Type::Array(element) => match &**element {
                Type::Struct(_) if optional => writeln!(
                    out,
                    "put::nullable_len(out, flexible, self.{name}.as_ref().map(Vec::len))?;\n\
                     for item in self.{name}.iter().flatten() {{ item.encode(out, version)?; }}"
                ),
                Type::Struct(_) => writeln!(
                    out,
                    "put::len(out, flexible, self.{name}.len())?;\n\
                     for item in &self.{name} {{ item.encode(out, version)?; }}"
                ),
                primitive if optional => {
                    let primitive = primitive_name(primitive);
                    writeln!(out, "put::nullable_{primitive}_array(out, flexible, self.{name}.as_deref())?;")
                }
                primitive => {
                    writeln!(out, "put::{}_array(out, flexible, &self.{name})?;", primitive_name(primitive))
                }
            },
        }
        .unwrap();
        out
    }

    /// A condition over `version`, which is known to lie within `possible`.
    fn within(&self, versions: Option<Versions>, possible: Versions) -> String {
        let possible = possible.and(self.versions);
        let Some((versions, possible)) = versions.zip(possible) else { return "false".to_string() };
        let Some(both) = versions.and(possible) else { return "false".to_string() };
        match (both.min > possible.min, both.max < possible.max) {
            (false, false) => "true".to_string(),
            (true, false) => format!("version >= {}", both.min),
            (false, true) => format!("version <= {}", both.max),
            (true, true) if both.min == both.max => format!("version == {}", both.min),
            (true, true) => format!("({}..={}).contains(&version)", both.min, both.max),
        }
    }

    /// Whether the field is an `Option`: null is legal in one of the versions at least.
    fn optional(&self, field: &Field) -> bool {
        let present = field.versions.and(self.versions);
        present.zip(field.nullable).is_some_and(|(present, nullable)| present.and(nullable).is_some())
    }

    /// Whether the default is null. Records have no other default in Kafka.
    fn default_is_null(&self, field: &Field) -> bool {
        self.optional(field) && (field.default.as_deref() == Some("null") || field.kind == Type::Records)
    }

    fn default_is_derived(&self, field: &Field) -> bool {
        if self.optional(field) { self.default_is_null(field) } else { plain_default(field).is_none() }
    }

    fn default_value(&self, field: &Field) -> String {
        if self.default_is_null(field) {
            return "None".to_string();
        }
        let value = match &field.kind {
            Type::String => plain_default(field).unwrap_or("\"\"".to_string()),
            Type::Bytes | Type::Records => "&[]".to_string(),
            Type::Array(_) => "Vec::new()".to_string(),
            Type::Struct(name) => format!("{name}::default()"),
            Type::Uuid => "Uuid::ZERO".to_string(),
            Type::Bool => plain_default(field).unwrap_or("false".to_string()),
            Type::Float64 => plain_default(field).unwrap_or("0.0".to_string()),
            _ => plain_default(field).unwrap_or("0".to_string()),
        };
        if self.optional(field) { format!("Some({value})") } else { value }
    }

    /// A condition: the field's value is not the default.
    fn differs(&self, field: &Field, name: &str) -> String {
        if self.default_is_null(field) {
            return format!("self.{name}.is_some()");
        }
        let optional = self.optional(field);
        match &field.kind {
            Type::Bool => match self.default_value(field).as_str() {
                "true" => format!("!self.{name}"),
                _ => format!("self.{name}"),
            },
            Type::Array(_) if optional => format!("self.{name}.as_ref().is_none_or(|items| !items.is_empty())"),
            Type::Bytes | Type::Records if optional => format!("self.{name}.is_none_or(|bytes| !bytes.is_empty())"),
            Type::Array(_) | Type::Bytes | Type::Records => format!("!self.{name}.is_empty()"),
            _ => format!("self.{name} != {}", self.default_value(field)),
        }
    }

    fn rust_type(&self, field: &Field) -> String {
        let name = self.rust_type_of(&field.kind);
        if self.optional(field) { format!("Option<{name}>") } else { name }
    }

    fn rust_type_of(&self, kind: &Type) -> String {
        match kind {
            Type::Struct(name) => {
                let fields = self.message.fields_of(name).unwrap_or_else(|| panic!("no struct {name}"));
                format!("{name}{}", self.lifetime_of(fields))
            }
            Type::Array(element) => format!("Vec<{}>", self.rust_type_of(element)),
            Type::Bool => "bool".to_string(),
            Type::Float64 => "f64".to_string(),
            Type::Uuid => "Uuid".to_string(),
            Type::String => "&'a str".to_string(),
            Type::Bytes | Type::Records => "&'a [u8]".to_string(),
            number => primitive_name(number).to_string(),
        }
    }

    fn lifetime_of(&self, fields: &[Field]) -> &'static str {
        if self.borrows(fields) { "<'a>" } else { "" }
    }

    /// Whether strings or bytes are inside.
    fn borrows(&self, fields: &[Field]) -> bool {
        fields.iter().any(|field| self.kind_borrows(&field.kind))
    }

    fn kind_borrows(&self, kind: &Type) -> bool {
        match kind {
            Type::String | Type::Bytes | Type::Records => true,
            Type::Array(element) => self.kind_borrows(element),
            Type::Struct(name) => self.message.fields_of(name).is_some_and(|fields| self.borrows(fields)),
            _ => false,
        }
    }

    /// The fewest bytes that the struct takes in the versions given, as an expression over `version`.
    fn min_size_expression(&self, name: &str, versions: Versions) -> String {
        let fields = self.message.fields_of(name).unwrap_or_else(|| panic!("no struct {name}"));
        let mut ranges: Vec<(i16, usize)> = Vec::new();
        let versions = versions.and(self.versions).unwrap_or(self.versions);
        for version in versions.min..=versions.max {
            let size = self.min_size(fields, version);
            if ranges.last().is_none_or(|(_, last)| *last != size) {
                ranges.push((version, size));
            }
        }
        let mut out = String::new();
        for (from, size) in ranges.iter().skip(1).rev() {
            write!(out, "if version >= {from} {{ {size} }} else ").unwrap();
        }
        let oldest = ranges[0].1;
        if ranges.len() == 1 { oldest.to_string() } else { format!("{out}{{ {oldest} }}") }
    }

    fn min_size(&self, fields: &[Field], version: i16) -> usize {
        let flexible = self.message.flexible.is_some_and(|flexible| flexible.contains(version));
        let plain = fields.iter().filter(|field| field.tag.is_none() && field.versions.contains(version));
        let sizes = plain.map(|field| match &field.kind {
            Type::Bool | Type::Int8 => 1,
            Type::Int16 | Type::Uint16 => 2,
            Type::Int32 => 4,
            Type::Int64 | Type::Float64 => 8,
            Type::Uuid => 16,
            Type::String | Type::Bytes | Type::Records | Type::Array(_) if flexible => 1,
            Type::String => 2,
            Type::Bytes | Type::Records | Type::Array(_) => 4,
            Type::Struct(_) if field.nullable.is_some_and(|nullable| nullable.contains(version)) => 1,
            Type::Struct(name) => self.message.fields_of(name).map_or(0, |fields| self.min_size(fields, version)),
        });
        sizes.sum::<usize>() + usize::from(flexible)
    }
}

fn field_summary(field: &Field) -> String {
    let mut text = format!("Versions {}", field.versions);
    if let Some(nullable) = field.nullable {
        if nullable.covers(field.versions) {
            text.push_str(", may be null");
        } else {
            write!(text, ", may be null in {nullable}").unwrap();
        }
    }
    if let Some((tag, _)) = field.tag {
        write!(text, ", tag {tag}").unwrap();
    }
    if let Some(default) = &field.default {
        write!(text, ", default {default}").unwrap();
    }
    text.push('.');
    text
}

/// The default as Rust writes it, if it is not null, zero, false or empty.
fn plain_default(field: &Field) -> Option<String> {
    let text = field.default.as_deref().filter(|text| *text != "null")?;
    match &field.kind {
        Type::Bool => (text == "true").then(|| text.to_string()),
        Type::String => Some(format!("{text:?}")),
        Type::Float64 => Some(format!("{text}_f64")),
        Type::Int8 | Type::Int16 | Type::Uint16 | Type::Int32 | Type::Int64 => {
            let value = match text.strip_prefix("0x") {
                Some(digits) => i64::from_str_radix(digits, 16),
                None => text.parse::<i64>(),
            };
            let value = value.unwrap_or_else(|_| panic!("field {}: the default {text} is no number", field.name));
            (value != 0).then(|| value.to_string())
        }
        other => panic!("field {}: a default for {other:?}", field.name),
    }
}

/// How the functions of reader and writer call the type.
fn primitive_name(kind: &Type) -> &'static str {
    match kind {
        Type::Int8 => "i8",
        Type::Int16 => "i16",
        Type::Uint16 => "u16",
        Type::Int32 => "i32",
        Type::Int64 => "i64",
        Type::Uuid => "uuid",
        Type::String => "string",
        other => panic!("no arrays of {other:?} so far"),
    }
}
