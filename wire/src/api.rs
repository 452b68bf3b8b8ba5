//! The APIs of the protocol and their versions, generated from the field tables.

use std::fmt;

/// What the field tables say about one API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiInfo {
    /// The key.
    pub key: ApiKey,
    /// Kafka's name, such as `CreateTopics`.
    pub name: &'static str,
    /// The oldest version that this crate can read and write.
    pub min_version: i16,
    /// The newest version.
    pub max_version: i16,
    /// The oldest version that Kafka 4 accepts; above `min_version` where legacy versions were added.
    pub kafka_min_version: i16,
    /// The first flexible version (KIP-482), `i16::MAX` if there is none.
    pub flexible_from: i16,
    /// Whether Kafka's brokers serve it.
    pub on_broker: bool,
    /// Whether Kafka's controllers serve it.
    pub on_controller: bool,
    /// Whether Kafka does not serve the newest version unless told so.
    pub latest_unstable: bool,
}

macro_rules! apis {
    ($(
        $name:ident = $key:literal, $min:literal, $max:literal, $kafka_min:literal, $flexible:literal,
        $broker:literal, $controller:literal, $unstable:literal;
    )*) => {
        /// The key of an API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $(
                #[doc = concat!("Versions ", $min, " to ", $max, ".")]
                $name = $key,
            )*
        }

        impl ApiKey {
            /// All APIs, ascending by key.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$name),*];

            /// The API of a number, if Kafka 4.3 has one.
            pub fn from_key(key: i16) -> Option<ApiKey> {
                match key {
                    $($key => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            /// What the field tables say.
            pub fn info(self) -> &'static ApiInfo {
                match self {
                    $(ApiKey::$name => &ApiInfo {
                        key: ApiKey::$name,
                        name: stringify!($name),
                        min_version: $min,
                        max_version: $max,
                        kafka_min_version: $kafka_min,
                        flexible_from: $flexible,
                        on_broker: $broker,
                        on_controller: $controller,
                        latest_unstable: $unstable,
                    },)*
                }
            }
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/apis.rs"));

impl ApiKey {
    /// The number on the wire.
    pub const fn key(self) -> i16 {
        self as i16
    }

    /// Kafka's name, such as `CreateTopics`.
    pub fn name(self) -> &'static str {
        self.info().name
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
