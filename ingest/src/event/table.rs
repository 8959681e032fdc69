//! What a row of the table is, and what the table becomes.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::value::{Found, Problem};
use super::{Event, GROUPS};

/// The type of a field outside Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// UTF-8 text.
    Text,
    /// A signed integer of 64 bits.
    Integer,
    /// True or false.
    Boolean,
    /// A time in UTC, in microseconds.
    Time,
}

impl Type {
    /// The word for it in documents and in `golden/fields.txt`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Time => "time",
        }
    }

    pub(super) const fn with_article(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Integer => "an integer",
            Self::Boolean => "a boolean",
            Self::Time => "a time as text",
        }
    }
}

/// What about a person a field can tell, so that redaction knows how to treat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personal {
    /// Where somebody is: an address of the network, which can be shortened.
    Address,
    /// Who somebody is: a name or an account, which can be replaced by a hash.
    Identifier,
    /// What somebody sent or asked for, which can hold anything and is masked by rules.
    Content,
}

impl Personal {
    /// The word for it in documents.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Identifier => "identifier",
            Self::Content => "content",
        }
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Field {
    /// The name, in JSON, in SQL and in Rust.
    pub name: &'static str,
    /// The type.
    pub data_type: Type,
    /// Whether every event has it.
    pub mandatory: bool,
    /// The schema version that brought it.
    pub since: i64,
    /// What it means, with its unit, in one or two sentences.
    pub doc: &'static str,
    /// The OpenTelemetry attribute that it is, if there is one.
    pub attribute: Option<&'static str>,
    /// What about a person it can tell, if anything.
    pub personal: Option<Personal>,
    /// The only texts allowed; empty if any is.
    pub texts: &'static [&'static str],
    pub(super) read: fn(&mut Event, Found<'_>) -> Result<(), Problem>,
}

/// Fields that belong together.
#[derive(Debug)]
pub struct Group {
    /// The heading.
    pub name: &'static str,
    /// What the fields tell of, and when they are there.
    pub about: &'static str,
    /// The fields, in order.
    pub fields: &'static [Field],
}

/// Every field, in the order of the table, which is the order of the JSON.
pub fn fields() -> impl Iterator<Item = &'static Field> {
    GROUPS.iter().flat_map(|group| group.fields)
}

/// The field of this name.
pub fn field(name: &str) -> Option<&'static Field> {
    numbered_field(name).map(|(_, field)| field)
}

/// How many fields there are.
pub(super) const FIELD_COUNT: usize = {
    let (mut count, mut group) = (0, 0);
    while group < GROUPS.len() {
        count += GROUPS[group].fields.len();
        group += 1;
    }
    count
};

/// The field of this name, and its place in [`fields`].
pub(super) fn numbered_field(name: &str) -> Option<(usize, &'static Field)> {
    static BY_NAME: LazyLock<HashMap<&str, (usize, &Field)>> = LazyLock::new(|| {
        fields().enumerate().map(|(place, field)| (field.name, (place, field))).collect()
    });
    BY_NAME.get(name).copied()
}

/// Turns the table into `struct Event`, its writer, and the rows as data.
macro_rules! schema {
    (
        mandatory $head:literal $head_about:literal {$(
            $(#[doc = $doc:literal])+
            $name:ident: $type:ident since $since:literal;
        )+}
        $(optional $group:literal $about:literal {$(
            $(#[doc = $odoc:literal])+
            $oname:ident: $otype:ident since $osince:literal
                $(otel $attribute:literal)? $(personal $personal:ident)?;
        )+})+
    ) => {
        /// What happened, once. See the module for what holds of every event.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Event {
            $( $(#[doc = $doc])+ pub $name: $type, )+
            $($( $(#[doc = $odoc])+ pub $oname: Option<$otype>, )+)+
        }

        impl Event {
            /// An event of nothing but its mandatory fields.
            fn of($($name: $type),+) -> Self {
                Self { $($name,)+ $($($oname: None,)+)+ }
            }

            /// Hands out each text that is there and can tell of a person.
            pub(crate) fn each_personal_text(
                &mut self,
                mut hand: impl FnMut(&'static str, Personal, &mut Option<Text>),
            ) {
                $($( schema!(@hand self hand $oname $($personal)?); )+)+
            }

            /// Takes all optional fields away.
            fn clear(&mut self) {
                $($( self.$oname = None; )+)+
            }

            /// Appends the event to `out` as one flat JSON object, without a line end.
            /// Absent fields are left out.
            pub fn write_json(&self, out: &mut Vec<u8>) {
                let start = out.len();
                $(
                    out.extend_from_slice(concat!(",\"", stringify!($name), "\":").as_bytes());
                    self.$name.write(out);
                )+
                $($(
                    if let Some(value) = &self.$oname {
                        out.extend_from_slice(concat!(",\"", stringify!($oname), "\":").as_bytes());
                        value.write(out);
                    }
                )+)+
                out[start] = b'{';
                out.push(b'}');
            }
        }

        /// The table: every field, in groups.
        pub static GROUPS: &[Group] = &[
            Group {
                name: $head,
                about: $head_about,
                fields: &[$(Field {
                    name: stringify!($name),
                    data_type: <$type as Value>::TYPE,
                    mandatory: true,
                    since: $since,
                    doc: concat!($($doc),+).trim_ascii(),
                    attribute: None,
                    personal: None,
                    texts: <$type as Value>::TEXTS,
                    read: |event, found| {
                        event.$name = Value::read(found)?;
                        Ok(())
                    },
                }),+],
            },
            $(Group {
                name: $group,
                about: $about,
                fields: &[$(Field {
                    name: stringify!($oname),
                    data_type: <$otype as Value>::TYPE,
                    mandatory: false,
                    since: $osince,
                    doc: concat!($($odoc),+).trim_ascii(),
                    attribute: schema!(@option $($attribute)?),
                    personal: schema!(@option $(Personal::$personal)?),
                    texts: <$otype as Value>::TEXTS,
                    read: |event, found| {
                        event.$oname = optional(found)?;
                        Ok(())
                    },
                }),+],
            },)+
        ];
    };
    (@hand $event:ident $hand:ident $name:ident) => {};
    (@hand $event:ident $hand:ident $name:ident $personal:ident) => {
        if $event.$name.is_some() {
            $hand(stringify!($name), Personal::$personal, &mut $event.$name);
        }
    };
    (@option) => { None };
    (@option $value:expr) => { Some($value) };
}
pub(super) use schema;
