//! Random encoded messages, written straight from the field tables.
//!
//! This is a second implementation of the encoding, by interpretation, so that the generated code is compared with
//! something else than itself.

use super::rng::Rng;
use super::schema::{Field, Message, Type};

/// One message in a version, in its only canonical form: a tagged field with the default value is left out.
pub(crate) fn sample(message: &Message, version: i16, rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    Sampler { message, version, flexible: is_flexible(message, version) }.fields(
        &message.fields,
        Some(rng),
        0,
        &mut out,
    );
    out
}

fn is_flexible(message: &Message, version: i16) -> bool {
    message.flexible.is_some_and(|flexible| flexible.contains(version))
}

struct Sampler<'m> {
    message: &'m Message,
    version: i16,
    flexible: bool,
}

impl Sampler<'_> {
    /// The fields of a struct; without a generator each has its default.
    fn fields(&self, fields: &[Field], mut rng: Option<&mut Rng>, depth: usize, out: &mut Vec<u8>) {
        let present = || fields.iter().filter(|field| field.versions.contains(self.version));
        for field in present().filter(|field| field.tag.is_none()) {
            match &mut rng {
                Some(rng) => self.random(field, rng, depth, out),
                None => self.default(field, out),
            }
        }
        if !self.flexible {
            return;
        }
        let mut tagged = Vec::new();
        if let Some(rng) = rng {
            for field in present() {
                let Some((tag, _)) = field.tag else { continue };
                let (mut value, mut default) = (Vec::new(), Vec::new());
                self.random(field, rng, depth, &mut value);
                self.default(field, &mut default);
                if value != default && !rng.one_in(4) {
                    tagged.push((tag, value));
                }
            }
        }
        tagged.sort();
        uvarint(out, tagged.len());
        for (tag, value) in tagged {
            uvarint(out, tag as usize);
            uvarint(out, value.len());
            out.extend(value);
        }
    }

    fn random(&self, field: &Field, rng: &mut Rng, depth: usize, out: &mut Vec<u8>) {
        if field.never_flexible && self.flexible {
            return Sampler { flexible: false, ..*self }.random(field, rng, depth, out);
        }
        let nullable = field.nullable.is_some_and(|nullable| nullable.contains(self.version));
        if nullable && rng.one_in(4) {
            return self.null(field, out);
        }
        if nullable && matches!(field.kind, Type::Struct(_)) {
            out.push(1);
        }
        self.random_value(&field.kind, rng, depth, out);
    }

    fn random_value(&self, kind: &Type, rng: &mut Rng, depth: usize, out: &mut Vec<u8>) {
        match kind {
            Type::Bool => out.push(rng.one_in(2).into()),
            Type::Int8 => out.push(number(rng) as u8),
            Type::Int16 | Type::Uint16 => out.extend((number(rng) as i16).to_be_bytes()),
            Type::Int32 => out.extend((number(rng) as i32).to_be_bytes()),
            Type::Int64 => out.extend(number(rng).to_be_bytes()),
            // From an integer, because a NaN would not be equal to itself.
            Type::Float64 => out.extend((number(rng) as f64 / 3.0).to_be_bytes()),
            Type::Uuid => out.extend((u128::from(rng.next()) << 64 | u128::from(rng.next())).to_be_bytes()),
            Type::String => {
                let long = if rng.one_in(50) { 300 } else { 8 };
                let text: String =
                    (0..rng.below(long)).map(|_| ['a', 'Z', '0', '-', 'ß', '電', '😀'][rng.below(7)]).collect();
                self.len(true, text.len(), out);
                out.extend(text.as_bytes());
            }
            Type::Bytes | Type::Records => {
                let most = if rng.one_in(50) { 20_000 } else { 20 };
                let len = rng.below(most);
                self.len(false, len, out);
                out.extend((0..len).map(|_| rng.next() as u8));
            }
            Type::Struct(name) => self.fields(self.fields_of(name), Some(rng), depth + 1, out),
            Type::Array(element) => {
                let most = match **element {
                    Type::Struct(_) => 4_usize.saturating_sub(depth).max(2),
                    _ if rng.one_in(50) => 300,
                    _ => 5,
                };
                let count = rng.below(most);
                self.len(false, count, out);
                for _ in 0..count {
                    self.random_value(element, rng, depth, out);
                }
            }
        }
    }

    fn default(&self, field: &Field, out: &mut Vec<u8>) {
        let nullable = field.nullable.is_some_and(|nullable| nullable.contains(self.version));
        if field.default.as_deref() == Some("null") || nullable && field.kind == Type::Records {
            return self.null(field, out);
        }
        let text = field.default.as_deref();
        let integer = || match text {
            Some(text) => match text.strip_prefix("0x") {
                Some(digits) => i64::from_str_radix(digits, 16).unwrap(),
                None => text.parse().unwrap(),
            },
            None => 0,
        };
        match &field.kind {
            Type::Bool => out.push((text == Some("true")).into()),
            Type::Int8 => out.push(integer() as u8),
            Type::Int16 | Type::Uint16 => out.extend((integer() as i16).to_be_bytes()),
            Type::Int32 => out.extend((integer() as i32).to_be_bytes()),
            Type::Int64 => out.extend(integer().to_be_bytes()),
            Type::Float64 => out.extend((integer() as f64).to_be_bytes()),
            Type::Uuid => out.extend([0; 16]),
            Type::String => self.len(true, 0, out),
            Type::Bytes | Type::Records | Type::Array(_) => self.len(false, 0, out),
            Type::Struct(name) => {
                if nullable {
                    out.push(1);
                }
                self.fields(self.fields_of(name), None, 0, out);
            }
        }
    }

    fn null(&self, field: &Field, out: &mut Vec<u8>) {
        match field.kind {
            Type::Struct(_) if field.tag.is_none() => out.push(0xff),
            _ if self.flexible => out.push(0),
            Type::String => out.extend([0xff; 2]),
            _ => out.extend([0xff; 4]),
        }
    }

    fn len(&self, short: bool, len: usize, out: &mut Vec<u8>) {
        if self.flexible {
            uvarint(out, len + 1);
        } else if short {
            out.extend((len as i16).to_be_bytes());
        } else {
            out.extend((len as i32).to_be_bytes());
        }
    }

    fn fields_of(&self, name: &str) -> &[Field] {
        self.message.fields_of(name).unwrap_or_else(|| panic!("{}: no struct {name}", self.message.name))
    }
}

/// Any integer, small ones and the ends of the range more often.
fn number(rng: &mut Rng) -> i64 {
    match rng.below(6) {
        0 => 0,
        1 => -1,
        2 => i64::MAX,
        3 => rng.below(100) as i64,
        _ => rng.next() as i64,
    }
}

fn uvarint(out: &mut Vec<u8>, value: usize) {
    let mut value = value;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
