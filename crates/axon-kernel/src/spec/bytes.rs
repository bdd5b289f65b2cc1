//! Amounts of memory as people write them: `"2GiB"`, `"500MB"`, or a number of bytes.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The units, the largest first.
const UNITS: [(&str, u64); 6] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
];

/// An amount of memory, exact to the byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize {
    bytes: u64,
}

/// A text that is no amount of memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount of memory: write it like 512MiB or 2GiB, or as a number of bytes")]
pub struct ByteSizeError(String);

impl ByteSize {
    /// Makes the amount of `mib` times 1,048,576 bytes.
    #[must_use]
    pub const fn from_mib(mib: u64) -> Self {
        Self { bytes: mib.saturating_mul(1 << 20) }
    }

    /// Makes the amount of so many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self { bytes }
    }

    /// Returns the amount in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.bytes
    }
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let refused = || ByteSizeError(crate::json::excerpt(text, 40));
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (count, unit) = text.split_at(split);
        let count: u64 = count.parse().ok().ok_or_else(refused)?;
        let unit = match unit.trim_start() {
            "" | "B" => 1,
            unit => {
                let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
                known.ok_or_else(refused)?.1
            }
        };
        count.checked_mul(unit).map(Self::from_bytes).ok_or_else(refused)
    }
}

/// Shows it in the largest unit that it is a whole number of.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, unit): &&(&str, u64)| self.bytes > 0 && self.bytes.is_multiple_of(*unit);
        match UNITS.iter().find(whole) {
            Some((name, unit)) => write!(f, "{}{name}", self.bytes / unit),
            None => write!(f, "{}B", self.bytes),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount of memory, like 512MiB or 2GiB")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                let bytes = u64::try_from(bytes)
                    .map_err(|_unsaid| E::invalid_value(de::Unexpected::Signed(bytes), &self))?;
                self.visit_u64(bytes)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize::from_bytes(bytes))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "pattern": r"^\d+\s*([kKmMgG][iI]?)?[bB]?$",
            "minimum": 0,
            "examples": ["512MiB", "2GiB"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_units_and_shown_in_the_largest_that_fits() {
        for (text, bytes, shown) in [
            ("2GiB", 2 << 30, "2GiB"),
            ("1536 MiB", 1536 << 20, "1536MiB"),
            ("2048MiB", 2 << 30, "2GiB"),
            ("500MB", 500_000_000, "500MB"),
            ("64kb", 64_000, "64kB"),
            ("7", 7, "7B"),
            ("0", 0, "0B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown), "{text}");
            assert_eq!(shown.parse::<ByteSize>(), Ok(size));
        }
        for bad in ["", "GiB", "-1", "1.5GiB", "1TiB", "1 G", "99999999999GiB", "١MiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }
}
